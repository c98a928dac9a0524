"""Run files: a model, its data, the requests and the method, in YAML that pydantic reads.

Paths in a run file are relative to the file. A builder is ``module:function``; the folder of the
run file is importable, so a researcher's own module beside it works without installation.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import datasets
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import nn

from expunge.changes.weights import is_finite, load_stored
from expunge.cli.made import built, imported, make, registered
from expunge.cli.output import first_line
from expunge.data.own import Columns, load_rows
from expunge.data.samples import Samples, TensorSamples
from expunge.deployment import Deployment
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.abilities import Family, HasLogits, able
from expunge.learning.supervised.plain import Plain
from expunge.methods.protocol import Method
from expunge.recipe import Recipe
from expunge.requests import Named, Request, Rows
from expunge.run import Precision, Run
from expunge.storage import read_tensors

DEVICES = ("cpu", "cuda", "mps")
"""Kinds of device that work is done on."""


Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPart(_Strict):
    """How the model is built and where its weights are."""

    builder: str
    arguments: dict[str, Any] = {}
    weights: Path
    family: str
    family_arguments: dict[str, Any] = {}


class DataPart(_Strict):
    """A table: a shipped set by name, or a file, with the columns of the user's own."""

    source: str
    split: str | None = None
    columns: Columns = Columns()


class Data(_Strict):
    """The rows that the model was trained on, and held-out rows to measure on."""

    train: DataPart
    test: DataPart


class RequestPart(_Strict):
    """One request: the rows whose ``column`` holds one of ``values``."""

    name: str
    column: str
    values: list[str] = Field(min_length=1)

    @field_validator("values", mode="before")
    @classmethod
    def _as_text(cls, values: object) -> object:
        """YAML reads 8 as a number and 2020-01-31 as a date; tables are searched as text."""
        if not isinstance(values, list):
            return values
        return [v if v is None or isinstance(v, dict | list) else str(v) for v in values]


class MethodPart(_Strict):
    """The method by its registered name, and its hyper-parameters."""

    name: str
    parameters: dict[str, Any] = {}


class RetrainPart(_Strict):
    """How the model was trained, for the oracle. Weights are initialised with ``seed``."""

    model_config = ConfigDict(allow_inf_nan=False)

    epochs: Annotated[int, Field(gt=0)]
    batch_size: Annotated[int, Field(gt=0)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    seed: Seed = 0


class RunFile(_Strict):
    """Everything that `expunge forget` and `expunge evaluate` need to know."""

    model: ModelPart
    data: Data
    requests: list[RequestPart] = Field(min_length=1)
    method: MethodPart
    aggregation: str = "cata"
    strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    recipe: RetrainPart | None = None
    out: Path = Path("runs/forget")
    seed: Seed = 0
    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True)
class Loaded:
    """A run file with everything it names in memory; nothing was written yet."""

    file: RunFile
    deployment: Deployment
    test: Samples
    test_table: Named
    requests: tuple[Request, ...]
    method: Method
    out: Path

    def run(self, **more: Any) -> Run:
        """The run that the file describes."""
        precision: Precision = self.file.precision
        return Run(self.file.seed, self.file.device, precision, **more)


def read(path: Path) -> Loaded:
    """Read a run file and load its model and data, and let the model answer a few rows.

    Raises:
        ExpungeError: the file, or something that it names, cannot be used.
    """
    file, folder = _parsed(path), path.resolve().parent
    datasets.disable_progress_bars()  # an error is one sentence, with nothing before it
    _check_device(file.device)
    family = make(registered("families", file.model.family), file.model.family_arguments)
    method = make(registered("methods", file.method.name), file.method.parameters)
    rule = make(registered("aggregations", file.aggregation), {})
    builder = imported(file.model.builder, folder)
    untrained = built(file.model.builder, builder, file.model.arguments)
    model = with_stored_weights(untrained, folder / file.model.weights)
    table, train = _rows("data.train", file.data.train, folder)
    test_table, test = _rows("data.test", file.data.test, folder)
    requests = _requests(file, table)
    for name, samples in (("data.train", train), ("data.test", test)):
        _probe(name, samples, model, family)
    recipe = _recipe(file, builder, family)
    out = Path(os.path.normpath(folder / file.out))
    deployment = Deployment(model, family, train, table, rule, recipe=recipe)
    return Loaded(file, deployment, test, test_table, requests, method, out)


def _parsed(path: Path) -> RunFile:
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
        given = first.get("input")
        shown = "" if isinstance(given, dict | list) else f" (given: {given!r})"
        raise ExpungeError(
            f"{path}: {where}: {first['msg']}{shown}; `docs/run_file.md` explains every key."
        ) from None


def _check_device(device: str) -> None:
    if device.partition(":")[0] not in DEVICES:
        raise ExpungeError(
            f"The device {device!r} was asked for; one of {', '.join(DEVICES)} is expected, such "
            "as 'cuda:0' for the first accelerator."
        )
    Run(device=device)


def _rows(name: str, part: DataPart, folder: Path) -> tuple[Named, TensorSamples]:
    table, samples = load_rows(part.source, part.split, part.columns, folder)
    if len(samples) == 0:
        raise ExpungeError(f"{name} ({part.source}) has no row; at least one is expected.")
    return table, samples


def _requests(file: RunFile, table: Named) -> tuple[Request, ...]:
    """The requests of the file, each known to name training rows; nothing is asked twice."""
    found: list[Request] = []
    train = file.data.train
    for part in file.requests:
        values = tuple(_class_index(part, v, train.columns.classes) for v in part.values)
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
            request.target.rows(table)
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


def _probe(name: str, samples: TensorSamples, model: nn.Module, family: Family) -> None:
    """Let the model answer a few rows, and compare all labels with its classes.

    Raises:
        ExpungeError: the model cannot read the rows, or a label is none of its classes.
    """
    few = samples.batch(torch.arange(min(len(samples), 4)))
    shapes = ", ".join(f"{n} {tuple(t.shape)}" for n, t in few.items() if n != "row")
    scorer = able(family, HasLogits)
    was_training = model.training
    try:
        with torch.inference_mode():
            logits: object = scorer.logits(model.eval(), few)
    except KeyError as error:
        raise ExpungeError(
            f"The family {family.name!r} reads the field {error.args[0]!r}; {name} has {shapes}. "
            "Give both the same `input_field`, in `columns` and in `model.family_arguments`."
        ) from None
    except Exception as error:  # the user's module may fail in any way
        raise ExpungeError(
            f"The model cannot read the rows of {name}, which have {shapes} "
            f"({first_line(error)}); check `columns.input` and the builder."
        ) from None
    finally:
        model.train(was_training)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(few["row"]):
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ExpungeError(
            f"The model answers {len(few['row'])} rows of {name} with {got}; logits of shape "
            "(rows, classes) are expected. Check the builder and the family."
        )
    _check_labels(name, samples, logits.shape[1], getattr(family, "classes", 0))


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
    for field, column in samples.columns.items():
        if column.is_floating_point() and not is_finite(column):
            bad = (~column.isfinite()).reshape(len(column), -1).any(1).nonzero()
            raise ExpungeError(
                f"The row {samples.ids[int(bad[0])]!r} of {name} has NaN or an infinite value in "
                f"{field!r}; finite numbers are expected. Mend or drop such rows."
            )


def _recipe(file: RunFile, builder: Callable[..., nn.Module], family: Family) -> Recipe | None:
    if file.recipe is None:
        return None

    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return built(file.model.builder, builder, file.model.arguments)

    learner = Plain(file.recipe.epochs, file.recipe.batch_size, AdamW(file.recipe.learning_rate))
    return Recipe(build, family, learner, file.recipe.seed)


def with_stored_weights(model: nn.Module, path: Path) -> nn.Module:
    """The module with the weights of a safetensors file.

    Raises:
        IntegrityError: the file is damaged, its tensors are not those of the module, or a weight
            is NaN or infinite.
    """
    tensors = read_tensors(path)
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise IntegrityError(
                f"The weights {path} have NaN or infinite values in {name!r}; the model was "
                "stored after it had diverged. Give other weights."
            )
    return load_stored(model, tensors, f"The file {path}")
