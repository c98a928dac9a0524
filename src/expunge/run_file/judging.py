"""The judge of a run file: a classifier of real pictures that says what drawings show."""

from pathlib import Path

import torch
from torch import Tensor

from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.families.classifier import Classifier
from expunge.families.diffusion import LabelDiffusion, TextDiffusion
from expunge.families.score import Score
from expunge.models.modes import evaluating
from expunge.run_file.keys import JudgePart
from expunge.run_file.made import built, imported
from expunge.run_file.weights import with_stored_weights
from expunge.signals.drawings import Judge


def judge_of(part: JudgePart, folder: Path, family: Family, rows: TensorSamples) -> Judge:
    """The judge of a model that draws.

    Args:
        part: what the file says.
        folder: where its paths start.
        family: of the model that draws.
        rows: real pictures with labels, of which it is asked a few.

    Raises:
        ExpungeError: the model does not draw, the rows have no labels, or the judge knows other
            classes than the model draws.
        IntegrityError: its weights are not those of the builder's module.
    """
    if not isinstance(family, LabelDiffusion | TextDiffusion | Score):
        raise ExpungeError(
            f"`judge` looks at drawings, and models of the family {family.name!r} draw none; leave "
            "it out."
        )
    if "label" not in rows.columns:
        raise ExpungeError(
            "`judge` is held against the labels of real pictures, and data.test has none; give "
            "`columns.label`, or leave the judge out."
        )
    made = built(part.builder, imported(part.builder, folder), part.arguments)
    network, classifier = with_stored_weights(made, folder / part.weights), Classifier()
    few = {"image": rows.columns["image"][:4].float()}
    try:
        with evaluating(network), torch.inference_mode():
            logits = classifier.logits(network, few)
            count = logits.shape[1]
    except Exception as error:  # the user's module may fail in any way
        raise ExpungeError(
            f"The judge {part.builder!r} cannot look at pictures of shape "
            f"{tuple(few['image'].shape[1:])} ({str(error).splitlines()[0]}); a classifier is "
            "expected that is called with them alone."
        ) from None
    known = len(family.classes) if isinstance(family, LabelDiffusion) else count
    outside = int(rows.columns["label"].max()) >= count
    if count != known or outside:
        raise ExpungeError(
            f"The judge knows {count} classes; the model draws {known}, and labels of data.test go "
            f"up to {int(rows.columns['label'].max())}. A judge of the same classes in the same "
            "order is expected."
        )
    channels, height, width = rows.columns["image"].shape[1:]
    told = torch.arange(count).repeat_interleave(part.each)
    return Judge(
        network,
        classifier,
        (channels, height, width),
        told,
        _conditions(family, told, rows),
        part.steps,
        part.guidance,
        part.eta,
    )


def _conditions(family: Family, told: Tensor, rows: TensorSamples) -> Tensor | None:
    """What the model is told for each class (n,): its label; of sentences those of real pictures of
    the class in turn, as many as there are drawings.

    Raises:
        ExpungeError: there is no sentence of a class.
    """
    if not isinstance(family, TextDiffusion):
        return told if isinstance(family, LabelDiffusion) else None
    found = []
    for label in range(int(told.max()) + 1):
        own = rows.columns[family.told_by][rows.columns["label"] == label]
        if not len(own):
            raise ExpungeError(
                f"The judge knows the class {label}, and no row of data.test has it, so that no "
                "sentence asks for it; give test rows of every class."
            )
        sentences = torch.tensor(list(dict.fromkeys(map(tuple, own.tolist()))))
        wanted = int((told == label).sum())
        found.append(sentences[torch.arange(wanted) % len(sentences)])
    return torch.cat(found)
