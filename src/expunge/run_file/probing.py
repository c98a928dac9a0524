"""Probing: a model answers a few rows of each table, and every row is held against its answers.

What does not fit is said in one sentence before any work.
"""

import dataclasses

import torch
from torch import nn

from expunge.changes.weights import is_finite
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError, IntegrityError, first_line
from expunge.families.abilities import (
    Family,
    HasAnswers,
    HasErrors,
    HasLogits,
    HasNoise,
    HasOutputs,
    able,
)
from expunge.families.diffusion import LabelDiffusion
from expunge.families.language import input_embedding
from expunge.models.modes import evaluating


def probed(name: str, samples: TensorSamples, model: nn.Module, family: Family) -> Family:
    """Let the model answer a few rows, and compare all labels, targets or tokens with its answers.

    Returns:
        The family, with the number of classes where it was not declared.

    Raises:
        ExpungeError: the model cannot read the rows, or a label is none of its classes.
    """
    few = samples.batch(torch.arange(min(len(samples), 4)))
    if isinstance(family, HasAnswers):
        _check_lines(name, samples, model, family)
        return family
    if isinstance(family, HasNoise):
        _check_pictures(name, samples, model, family)
        return family
    shapes = ", ".join(f"{n} {tuple(t.shape)}" for n, t in few.items() if n != "row")
    _check_answers_asked(name, samples, family)
    try:
        with evaluating(model), torch.inference_mode():
            answers: object = able(family, HasOutputs).outputs(model, few)
    except ExpungeError:
        raise
    except KeyError as error:
        raise ExpungeError(
            f"The family {family.name!r} reads the field {error.args[0]!r}; {name} has {shapes}. "
            "Name one of these in `model.family_arguments.inputs`, or call the input so in "
            "`columns.input_field`."
        ) from None
    except Exception as error:  # the user's module may fail in any way
        raise ExpungeError(
            f"The model cannot read the rows of {name}, which have {shapes} "
            f"({first_line(error)}); check `columns.input` and the builder."
        ) from None
    width = _width(name, answers, len(few["row"]))
    _check_finite(name, samples)
    if not isinstance(family, HasLogits):
        with torch.inference_mode(), evaluating(model):
            able(family, HasErrors).errors(model, few)  # refuses targets of another shape
        return family
    _check_labels(name, samples, width, getattr(family, "classes", 0))
    if getattr(family, "classes", width) == width:
        return family
    declared: Family = dataclasses.replace(family, classes=width)  # type: ignore[type-var]
    return declared


def _check_lines(name: str, samples: TensorSamples, model: nn.Module, family: HasAnswers) -> None:
    """Every token has an embedding, and a few lines are answered with numbers.

    Raises:
        ExpungeError: a token is none of the model's, or the model cannot read the lines.
        IntegrityError: its answers are NaN or infinite.
    """
    tokens = samples.columns["input_ids"]
    rows = input_embedding(model).get_parameter("weight").shape[0]
    beyond = (tokens >= rows).any(1).nonzero().reshape(-1)
    if len(beyond):
        raise ExpungeError(
            f"The row {samples.ids[int(beyond[0])]!r} of {name} has the token {int(tokens.max())} "
            f"and the model has embeddings of {rows:,} tokens; give the tokenizer that it was "
            "trained with."
        )
    few = samples.batch(torch.arange(min(len(samples), 4)))
    try:
        with evaluating(model), torch.inference_mode():
            logits = family.answers(model, few).values
    except ExpungeError:
        raise
    except Exception as error:  # a third party's model may fail in any way
        raise ExpungeError(
            f"The model cannot read the lines of {name} ({first_line(error)}); a causal language "
            "model that is called with `input_ids` is expected."
        ) from None
    if not is_finite(logits):
        raise IntegrityError(
            f"The model answers the first rows of {name} with NaN or infinite numbers; its weights "
            "are damaged or diverged. Give other weights."
        )


def _check_pictures(name: str, samples: TensorSamples, model: nn.Module, family: Family) -> None:
    """Every row is a picture from 0 to 1 that the model knows a condition of, and it sees noise in
    a few of them.

    Raises:
        ExpungeError: a picture or a label is none of the model's, or the model cannot read them.
        IntegrityError: the noise that it sees is NaN or infinite.
    """
    few = samples.batch(torch.arange(min(len(samples), 4)))
    try:
        drawn = family.draw(few, torch.Generator().manual_seed(0))
    except ExpungeError as error:
        raise ExpungeError(f"{name}: {error}") from None
    _check_made_for(name, few["image"], model)
    _check_finite(name, samples)
    _check_range(name, samples)
    if isinstance(family, LabelDiffusion):
        check_told(name, samples, family)
    try:
        with evaluating(model), torch.inference_mode():
            noise = able(family, HasNoise).noises(model, drawn)[0]
    except ExpungeError:
        raise
    except Exception as error:  # the user's module may fail in any way
        shapes = ", ".join(f"{n} {tuple(t.shape)}" for n, t in few.items() if n != "row")
        raise ExpungeError(
            f"The model cannot read the rows of {name}, which have {shapes} "
            f"({first_line(error)}); a network is expected that is called with pictures and "
            "timesteps, and with labels where it is told what to draw."
        ) from None
    if not is_finite(noise):
        raise IntegrityError(
            f"The model sees noise that is NaN or infinite in the first rows of {name}; its "
            "weights are damaged or diverged. Give other weights."
        )


def _check_made_for(name: str, images: torch.Tensor, model: nn.Module) -> None:
    """Hold the pictures against the size in the config of a network of ``diffusers``: a network of
    convolutions reads others without a word."""
    inner = getattr(model, "unet", model)  # of latents the size is another
    made = getattr(getattr(inner, "config", None), "sample_size", None)
    if made is None or hasattr(model, "vae"):
        return
    size = (made, made) if isinstance(made, int) else tuple(made)
    if tuple(images.shape[2:]) != size:
        raise ExpungeError(
            f"The network was made for pictures of {size[0]} x {size[1]} pixels, and those of "
            f"{name} have {images.shape[2]} x {images.shape[3]}; resize them with `columns.size`, "
            "or build the network for them."
        )


def _check_range(name: str, samples: TensorSamples) -> None:
    images = samples.columns["image"]
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1 + 1e-6:
        raise ExpungeError(
            f"The pictures of {name} go from {low:g} to {high:g}; models that draw read them from "
            "0 to 1. Scale the column, and do not standardise it."
        )


def check_told(name: str, samples: TensorSamples, family: LabelDiffusion) -> None:
    """Every row has a label that the model knows by name.

    Raises:
        ExpungeError: it has none, or another.
    """
    if not family.classes:
        raise ExpungeError(
            "A diffusion model is told labels, and their names are not known; give "
            "`model.family_arguments: {classes: [...]}`, all of them in the order of the labels."
        )
    if family.told_by not in samples.columns:
        raise ExpungeError(
            f"The model is told a label with every picture, and {name} has none; give "
            "`columns.label`, or the family `score`."
        )
    _check_labels(name, samples, len(family.classes), 0)


def _check_answers_asked(name: str, samples: TensorSamples, family: Family) -> None:
    wanted = "label" if isinstance(family, HasLogits) else "target"
    if wanted not in samples.columns:
        other = "target" if wanted == "label" else "label"
        raise ExpungeError(
            f"The family {family.name!r} learns a {wanted} and {name} has a {other}; give "
            f"`columns.{wanted}`, or another family."
        )


def _width(name: str, answers: object, rows: int) -> int:
    if isinstance(answers, torch.Tensor) and answers.ndim == 2 and len(answers) == rows:
        return answers.shape[1]
    got = tuple(answers.shape) if isinstance(answers, torch.Tensor) else type(answers).__name__
    raise ExpungeError(
        f"The model answers {rows} rows of {name} with {got}; logits of shape (rows, classes) or "
        "numbers of shape (rows, targets) are expected. Check the builder and the family."
    )


def _check_labels(name: str, samples: TensorSamples, classes: int, declared: int) -> None:
    if declared not in (0, classes):
        raise ExpungeError(
            f"`model.family_arguments` declares {declared} classes and the model answers with "
            f"{classes}; give the same number."
        )
    labels = samples.columns["label"]
    outside = ((labels < 0) | (labels >= classes)).nonzero().reshape(-1)
    if len(outside):
        row = int(outside[0])
        raise ExpungeError(
            f"The row {samples.ids[row]!r} of {name} has the label {int(labels[row])}; the model "
            f"has {classes} classes, 0 to {classes - 1}. Check `columns.label` and `classes`."
        )


def _check_finite(name: str, samples: TensorSamples) -> None:
    for field, column in samples.columns.items():
        if column.is_floating_point() and not is_finite(column):
            bad = (~column.isfinite()).reshape(len(column), -1).any(1).nonzero()
            raise ExpungeError(
                f"The row {samples.ids[int(bad[0])]!r} of {name} has NaN or an infinite value in "
                f"{field!r}; finite numbers are expected. Mend or drop such rows."
            )
