"""Reading a run file: its model, its tables and its method in memory, each known to fit the others.

Paths in a run file are relative to the file. A builder is ``module:function``; the folder of the
run file is importable, so a researcher's own module beside it works without installation. The keys
stand in :mod:`expunge.cli.keys`.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import yaml
from pydantic import ValidationError
from torch import nn

from expunge.changes.weights import is_finite, load_stored, stored_tensors
from expunge.cli.keys import DataPart, RequestPart, RetrainPart, RunFile
from expunge.cli.made import built, imported, make, registered
from expunge.cli.output import first_line
from expunge.data.own import OwnRows, read_rows
from expunge.data.samples import Samples, TensorSamples
from expunge.data.scaling import Scaling
from expunge.deployment import Deployment
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.abilities import Family, HasErrors, HasLogits, HasOutputs, able
from expunge.learning.supervised.plain import Plain
from expunge.methods.protocol import Method
from expunge.models.checkpoint import Checkpoint
from expunge.models.freezing import train_only
from expunge.recipe import Recipe, Role
from expunge.requests import Named, Request, Rows
from expunge.run import Precision, Run
from expunge.signals.ask import evaluating
from expunge.storage import read_header, read_tensors

DEVICES = ("cpu", "cuda", "mps")
"""Kinds of device that work is done on."""


@dataclass(frozen=True)
class Loaded:
    """A run file with everything it names in memory; nothing was written yet.

    ``notes`` say what was left out of the tables, such as the ends of long texts.
    """

    file: RunFile
    deployment: Deployment
    test: Samples
    test_table: Named
    requests: tuple[Request, ...]
    method: Method
    out: Path
    validation: Samples | None = None
    validation_table: Named | None = None
    checkpoint: Checkpoint | None = None
    notes: tuple[str, ...] = ()

    def run(self, **more: Any) -> Run:
        """The run that the file describes."""
        precision: Precision = self.file.precision
        return Run(self.file.seed, self.file.device, precision, **more)


def read(path: Path) -> Loaded:
    """Read a run file and load its model and data, and let the model answer a few rows.

    Raises:
        ExpungeError: the file, or something that it names, cannot be used.
    """
    file, folder = parsed(path), path.resolve().parent
    datasets.disable_progress_bars()  # an error is one sentence, with nothing before it
    _check_device(file.device)
    checkpoint = None
    if file.model.checkpoint is not None:
        checkpoint = Checkpoint.open(folder / file.model.checkpoint)
    kind = file.model.family or (checkpoint.kind if checkpoint else "")
    family = make(registered("families", kind), file.model.family_arguments)
    method = make(registered("methods", file.method.name), file.method.parameters)
    rule = make(registered("aggregations", file.aggregation), {})
    untrained = _untrained(file, folder, checkpoint)
    model = _model(file, folder, checkpoint, untrained)
    tables, units = _standardised(file, _tables(file, folder, checkpoint))
    family = _completed(family, file, checkpoint, tables["data.train"], units)
    requests = _requests(file, tables["data.train"])
    for name, rows in tables.items():
        family = _probe(name, rows.samples, model, family)
    recipe = None
    if file.recipe is not None:
        if file.recipe.train_only:
            train_only(model, file.recipe.train_only)
        recipe = _recipe(file.recipe, folder, checkpoint, untrained, family)
    train, test, validation = (
        tables.get(f"data.{name}") for name in ("train", "test", "validation")
    )
    assert train is not None
    assert test is not None
    held = {} if validation is None else {Role.VALIDATION: validation.samples}
    deployment = Deployment(
        model, family, train.samples, train.table, rule, data=held, recipe=recipe
    )
    return Loaded(
        file,
        deployment,
        test.samples,
        test.table,
        requests,
        method,
        Path(os.path.normpath(folder / file.out)),
        None if validation is None else validation.samples,
        None if validation is None else validation.table,
        checkpoint,
        tuple(f"{name}: {note}" for name, rows in tables.items() for note in rows.notes),
    )


def parsed(path: Path) -> RunFile:
    """The keys of a run file, checked one by one.

    Raises:
        ExpungeError: the file is not there, is no YAML, or a key is unknown or of another kind.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ExpungeError(f"There is no run file {path}; `docs/run_file.md` shows one.") from None
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ExpungeError(
            f"{path}{where} is not readable YAML: {error.problem}; `docs/run_file.md` shows a "
            "run file."
        ) from None
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise ExpungeError(f"{path} is not readable YAML ({first_line(error)}).") from None
    try:
        return RunFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        given, said = first.get("input"), first["msg"].removeprefix("Value error, ")
        shown = "" if isinstance(given, dict | list) else f" (given: {given!r})"
        raise ExpungeError(
            f"{path}: {where}: {said}{shown}; `docs/run_file.md` explains every key."
        ) from None


def _check_device(device: str) -> None:
    if device.partition(":")[0] not in DEVICES:
        raise ExpungeError(
            f"The device {device!r} was asked for; one of {', '.join(DEVICES)} is expected, such "
            "as 'cuda:0' for the first accelerator."
        )
    Run(device=device)


def _untrained(
    file: RunFile, folder: Path, checkpoint: Checkpoint | None
) -> Callable[[int], nn.Module]:
    """What makes the module from the seed of its initial weights."""
    if checkpoint is not None:
        return checkpoint.untrained
    name = str(file.model.builder)
    builder = imported(name, folder)

    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return built(name, builder, file.model.arguments)

    return build


def _model(
    file: RunFile,
    folder: Path,
    checkpoint: Checkpoint | None,
    untrained: Callable[[int], nn.Module],
) -> nn.Module:
    if checkpoint is None:
        assert file.model.weights is not None  # the keys were checked
        return with_stored_weights(untrained(0), folder / file.model.weights)
    model = checkpoint.model()
    for name, tensor in stored_tensors(model).items():
        _check_weight(f"The weights in {checkpoint.folder}", name, tensor)
    return model


def _tables(file: RunFile, folder: Path, checkpoint: Checkpoint | None) -> dict[str, OwnRows]:
    """Every table of the file by its key."""
    parts = {"data.train": file.data.train, "data.test": file.data.test}
    if file.data.validation is not None:
        parts["data.validation"] = file.data.validation
    return {name: _rows(part, folder, checkpoint) for name, part in parts.items()}


def _rows(part: DataPart, folder: Path, checkpoint: Checkpoint | None) -> OwnRows:
    classes = checkpoint.classes if checkpoint else ()
    return read_rows(part.source, part.split, part.columns, folder, checkpoint, classes)


def _standardised(
    file: RunFile, tables: Mapping[str, OwnRows]
) -> tuple[dict[str, OwnRows], tuple[float, ...]]:
    """The tables in the scale of the training table, and the units of its targets."""
    units: tuple[float, ...] = ()
    found = dict(tables)
    for part in dict.fromkeys(file.data.standardise):
        train = found["data.train"]
        field = "target" if part == "target" else train.inputs[0]
        column = train.samples.columns.get(field)
        if column is None or column.dim() > 2 or not column.is_floating_point():
            raise ExpungeError(
                f"`data.standardise` names the {part}, and data.train has no {part} of numbers in "
                "columns; leave it out, or name columns of numbers."
            )
        scaling = Scaling.of(column)
        if part == "target":
            units = tuple(scaling.deviations.tolist())
        for name, rows in found.items():
            scaled = scaling.applied(rows.samples.columns[field])
            samples = rows.samples.with_column(field, scaled)
            found[name] = dataclasses.replace(rows, samples=samples)
    return found, units


def _completed(
    family: Family,
    file: RunFile,
    checkpoint: Checkpoint | None,
    train: OwnRows,
    units: tuple[float, ...],
) -> Family:
    """The family with what follows from the data and the checkpoint, where the file is silent."""
    known: dict[str, Any] = {"inputs": train.inputs}
    if units:
        known["units"] = units
    if file.model.prompts:
        assert checkpoint is not None  # the keys were checked
        known["prompts"] = checkpoint.texts(file.model.prompts, None).fields
        known["classes"] = len(file.model.prompts)
    fields = {f.name for f in dataclasses.fields(family)}  # type: ignore[arg-type]
    if file.model.prompts and "prompts" not in fields:
        raise ExpungeError(
            f"`model.prompts` were given and the family {family.name!r} takes none; leave them out."
        )
    news = {n: v for n, v in known.items() if n in fields - set(file.model.family_arguments)}
    completed: Family = dataclasses.replace(family, **news)  # type: ignore[type-var]
    return completed


def _requests(file: RunFile, rows: OwnRows) -> tuple[Request, ...]:
    """The requests of the file, each known to name training rows; nothing is asked twice."""
    found: list[Request] = []
    train = file.data.train
    for part in file.requests:
        values = tuple(_class_index(part, v, rows.classes) for v in part.values)
        request = Request(part.name, Rows(part.column, values))
        for past in found:
            if past.name == request.name:
                raise ExpungeError(
                    f"Two requests have the name {request.name!r}; give each a name of its own."
                )
            if past.digest() == request.digest():
                raise ExpungeError(
                    f"The request {request.name!r} was made before, as {past.name!r}; drop it "
                    "from the run file."
                )
        try:
            request.target.rows(rows.table)
        except ExpungeError as error:
            split = f", split {train.split}" if train.split else ""
            raise ExpungeError(f"data.train ({train.source}{split}): {error}") from None
        found.append(request)
    return tuple(found)


def _class_index(part: RequestPart, value: str, classes: tuple[str, ...]) -> str:
    """A class may be named by its text where ``classes`` lists it; the table holds its index."""
    if part.column != "label" or value not in classes:
        return value
    return str(classes.index(value))


def _probe(name: str, samples: TensorSamples, model: nn.Module, family: Family) -> Family:
    """Let the model answer a few rows, and compare all labels or targets with its answers.

    Returns:
        The family, with the number of classes where it was not declared.

    Raises:
        ExpungeError: the model cannot read the rows, or a label is none of its classes.
    """
    few = samples.batch(torch.arange(min(len(samples), 4)))
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


def _recipe(
    part: RetrainPart,
    folder: Path,
    checkpoint: Checkpoint | None,
    untrained: Callable[[int], nn.Module],
    family: Family,
) -> Recipe:
    initial = None if part.initial is None else folder / part.initial
    if initial is not None and not initial.is_dir():
        read_header(initial)  # an error is said before any work
    elif initial is not None and checkpoint is None:
        raise ExpungeError(
            f"`recipe.initial` is the folder {initial}; for a model with a builder a safetensors "
            "file is expected."
        )

    def build(seed: int) -> nn.Module:
        if initial is None:
            model = untrained(seed)
        elif checkpoint is not None and initial.is_dir():
            model = checkpoint.started(initial, seed)
        else:
            model = with_stored_weights(untrained(seed), initial)
        return train_only(model, part.train_only) if part.train_only else model

    optimiser = AdamW(part.learning_rate, weight_decay=part.weight_decay)
    return Recipe(build, family, Plain(part.epochs, part.batch_size, optimiser), part.seed)


def with_stored_weights(model: nn.Module, path: Path) -> nn.Module:
    """The module with the weights of a safetensors file.

    Raises:
        IntegrityError: the file is damaged, its tensors are not those of the module, or a weight
            is NaN or infinite.
    """
    tensors = read_tensors(path)
    for name, tensor in tensors.items():
        _check_weight(f"The weights {path}", name, tensor)
    return load_stored(model, tensors, f"The file {path}")


def _check_weight(what: str, name: str, tensor: torch.Tensor) -> None:
    if not is_finite(tensor):
        raise IntegrityError(
            f"{what} have NaN or infinite values in {name!r}; the model was stored after it had "
            "diverged. Give other weights."
        )
