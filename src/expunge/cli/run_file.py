"""Run files: a model, its data, the requests and the method, in YAML that pydantic reads.

Paths in a run file are relative to the file. A builder is ``module:function``; the folder of the
run file is importable, so a researcher's own module beside it works without installation.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from expunge import registry
from expunge.changes.weights import buffers_of, parameters_of, with_weights
from expunge.data.own import Columns, load_rows
from expunge.data.samples import Samples
from expunge.deployment import Deployment
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.abilities import Family
from expunge.learning.supervised.plain import Plain
from expunge.methods.protocol import Method
from expunge.recipe import Recipe
from expunge.requests import Named, Request, Rows
from expunge.run import Precision, Run
from expunge.storage import read_tensors


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
    values: list[str | int] = Field(min_length=1)


class MethodPart(_Strict):
    """The method by its registered name, and its hyper-parameters."""

    name: str
    parameters: dict[str, Any] = {}


class RetrainPart(_Strict):
    """How the model was trained, for the oracle. Weights are initialised with ``seed``."""

    epochs: Annotated[int, Field(gt=0)]
    batch_size: Annotated[int, Field(gt=0)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    seed: int = 0


class RunFile(_Strict):
    """Everything that `expunge forget` and `expunge evaluate` need to know."""

    model: ModelPart
    data: Data
    requests: list[RequestPart] = Field(min_length=1)
    method: MethodPart
    aggregation: str = "cata"
    strength: Annotated[float, Field(ge=0)] = 1.0
    recipe: RetrainPart | None = None
    out: Path = Path("runs/forget")
    seed: int = 0
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
    """Read a run file and load its model and data.

    Raises:
        ExpungeError: the file, or something that it names, cannot be used.
    """
    file, folder = _parsed(path), path.resolve().parent
    family = make(registry.load("families", file.model.family), file.model.family_arguments)
    builder = imported(file.model.builder, folder)
    model = with_stored_weights(builder(**file.model.arguments), folder / file.model.weights)
    table, train = load_rows(
        file.data.train.source, file.data.train.split, file.data.train.columns, folder
    )
    test_table, test = load_rows(
        file.data.test.source, file.data.test.split, file.data.test.columns, folder
    )
    requests = tuple(
        Request(r.name, Rows(r.column, tuple(str(v) for v in r.values))) for r in file.requests
    )
    for request in requests:
        request.target.rows(table)  # what is misspelt is said before any work is done
    method = make(registry.load("methods", file.method.name), file.method.parameters)
    rule = make(registry.load("aggregations", file.aggregation), {})
    recipe = _recipe(file, builder, family)
    deployment = Deployment(model, family, train, table, rule, recipe=recipe)
    return Loaded(file, deployment, test, test_table, requests, method, folder / file.out)


def _parsed(path: Path) -> RunFile:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ExpungeError(f"There is no run file {path}; `docs/run_file.md` shows one.") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ExpungeError(f"{path} is not readable YAML: {error}") from None
    try:
        return RunFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ExpungeError(
            f"{path}: {where}: {first['msg']} (given: {first.get('input')!r}); "
            "`docs/run_file.md` explains every key."
        ) from None


def _recipe(file: RunFile, builder: Callable[..., nn.Module], family: Family) -> Recipe | None:
    if file.recipe is None:
        return None

    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return builder(**file.model.arguments)

    learner = Plain(file.recipe.epochs, file.recipe.batch_size, AdamW(file.recipe.learning_rate))
    return Recipe(build, family, learner, file.recipe.seed)


def make(kind: type, arguments: Mapping[str, Any]) -> Any:
    """An instance of a registered dataclass, its fields checked by name.

    Raises:
        ExpungeError: a field is unknown, or its value cannot be used.
    """
    known = {f.name: f for f in fields(kind)}
    for name in arguments:
        if name not in known:
            raise ExpungeError(
                f"{kind.__name__} has no parameter {name!r}; it has "
                f"{', '.join(sorted(known)) or 'none'}."
            )
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ExpungeError(f"{kind.__name__}: {error}; give every parameter it needs.") from None


def imported(name: str, folder: Path) -> Callable[..., nn.Module]:
    """The function ``module:function``; modules in ``folder`` can be named.

    Raises:
        ExpungeError: there is no such module or function.
    """
    module, _, function = name.partition(":")
    if not function:
        raise ExpungeError(f"The builder {name!r} was given; 'module:function' is expected.")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found: Callable[..., nn.Module] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ExpungeError(
            f"The builder {name!r} cannot be imported ({error}); put the module beside the run "
            "file or install it."
        ) from None
    return found


def with_stored_weights(model: nn.Module, path: Path) -> nn.Module:
    """The module with the weights of a safetensors file.

    Raises:
        IntegrityError: the file is damaged, or its tensors are not those of the module.
    """
    tensors = read_tensors(path)
    wanted: dict[str, Tensor] = {**parameters_of(model), **buffers_of(model)}
    missing = sorted(set(wanted) - set(tensors))
    if missing:
        raise IntegrityError(
            f"{path} lacks {missing[0]!r}{f' and {len(missing) - 1} more' if missing[1:] else ''} "
            "of this model; give the weights that this builder's model was saved with."
        )
    extra = sorted(set(tensors) - set(model.state_dict()))
    if extra:
        raise IntegrityError(
            f"{path} holds {extra[0]!r}, which this model does not have; check the builder."
        )
    return with_weights(model, {name: tensors[name] for name in wanted})
