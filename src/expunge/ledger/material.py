"""Material: what a registered model is made of outside the ledger: its rows, its family, how it was
trained, and the method that requests are answered with by default.

The ledger keeps a description of it, encrypted: the keys of a run file with the folder that its
paths start from, or the name of a function that returns a :class:`Material`. Rows stay where they
are; their digest says whether they are still those that were registered.
"""

import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn

from expunge.aggregation.protocol import Aggregation
from expunge.changes.weights import load_stored
from expunge.data.samples import Samples
from expunge.errors import ExpungeError, IntegrityError, first_line
from expunge.families.abilities import Family
from expunge.families.diffusion import TextDiffusion
from expunge.ledger.canonical import canonical
from expunge.ledger.keys import Keys
from expunge.ledger.scope import HASH, among, hashes_of_rows
from expunge.methods.presets import AtPreset, HasPreset, fields_of, settled, starting_point
from expunge.methods.protocol import Method
from expunge.recipe import Recipe, Record, Role
from expunge.requests import Named
from expunge.run import Precision, Run
from expunge.run_file.keys import RunFile
from expunge.run_file.made import make, registered
from expunge.run_file.reading import Folder, Loaded, loaded, parsed


@dataclass(frozen=True, eq=False)
class Material:
    """A model as it was before any request, and everything around it.

    Args:
        model: the module with its weights.
        family: what kind of model it is.
        train: the rows it was trained on, with ``train_table`` beside them.
        held_out: rows that the gate measures on, with their table; no method is tuned on them here.
        data: further samples by role that methods may ask for.
        recipe: how the model was made, where it is known.
        method: what requests are answered with where they name no method.
        settings: where its fields come from.
        aggregation: registered name of the rule that combines changes.
        strength: of a change, where a request names none.
        seed: fixes every draw.
        device: a torch device.
        precision: of forward passes.
        classes: texts of the labels, where a request may name them.
        checkpoint: the Hugging Face folder that the model was read from.
        record: what the learner kept while it trained the model; the ledger keeps it from then on.
    """

    model: nn.Module
    family: Family
    train: Samples
    train_table: Named
    held_out: Samples
    held_out_table: Named
    method: Method
    data: Mapping[Role, Samples] = dataclasses.field(default_factory=dict)
    recipe: Recipe | None = None
    settings: str = "paper's defaults"
    aggregation: str = "cata"
    strength: float = 1.0
    seed: int = 0
    device: str = "cpu"
    precision: Precision = "float32"
    classes: tuple[str, ...] = ()
    checkpoint: Folder | None = None
    record: Record | None = None

    @classmethod
    def of(cls, read: Loaded) -> Self:
        """The material of a run file: held-out rows are its validation rows, where it has some."""
        deployment = read.deployment
        held_out, table = read.test, read.test_table
        if read.validation is not None and read.validation_table is not None:
            held_out, table = read.validation, read.validation_table
        return cls(
            deployment.base,
            deployment.family,
            deployment.train,
            deployment.table,
            held_out,
            table,
            read.method,
            deployment.data,
            deployment.recipe,
            read.settings,
            read.file.aggregation,
            read.file.strength,
            read.file.seed,
            read.file.device,
            read.file.precision,
            read.classes,
            read.checkpoint,
            deployment.record,
        )

    def run(self) -> Run:
        """The run that everything is computed under."""
        return Run(self.seed, self.device, self.precision)

    def rule(self, name: str | None = None) -> Aggregation[Any]:
        """The rule of a registered name, or the model's own."""
        rule: Aggregation[Any] = make(
            registered("aggregations", self.aggregation if name is None else name), {}
        )
        return rule

    def method_named(self, name: str, parameters: Mapping[str, Any]) -> Method:
        """A method with these fields: at its preset where none is given, as in a run file.

        Raises:
            ExpungeError: there is no such method, or a field cannot be used.
        """
        if name == self.method.name and not parameters:
            return self.method
        method: Method = make(registered("methods", name), parameters)
        if not settled(method, parameters) and isinstance(method, HasPreset):
            return AtPreset.of(method)
        return method

    def without(self, gone: Tensor, held_out: Tensor) -> Self:
        """The material without some training rows (n,) bool and some held-out rows (m,) bool, and
        without the sentences that none but these training rows say."""
        train, table = _left(self.train, self.train_table, gone)
        held, held_table = _left(self.held_out, self.held_out_table, held_out)
        data = dict(self.data)
        if Role.PROMPTS in data and isinstance(self.family, TextDiffusion) and gone.any():
            data[Role.PROMPTS] = _still_said(data[Role.PROMPTS], self.train, gone, self.family)
        return dataclasses.replace(
            self,
            train=train,
            train_table=table,
            held_out=held,
            held_out_table=held_table,
            data=data,
        )

    def with_weights(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The module with stored weights.

        Raises:
            IntegrityError: they are not those of the module.
        """
        return load_stored(self.model, tensors, "The stored base")


def _left(samples: Samples, table: Any, gone: Tensor) -> tuple[Samples, Named]:
    if not gone.any():
        return samples, table
    kept = (~gone).nonzero().reshape(-1)
    return samples.select(kept), table.select(kept.tolist())


def _still_said(prompts: Samples, train: Samples, gone: Tensor, family: TextDiffusion) -> Samples:
    """The sentences that a row which stays says, and those that no training row does."""

    def tokens(samples: Samples) -> list[tuple[int, ...]]:
        found = samples.batch(torch.arange(len(samples)), {family.told_by})[family.told_by]
        return [tuple(row) for row in found.tolist()]

    said = tokens(train)
    staying = {one for one, left in zip(said, (~gone).tolist(), strict=True) if left}
    lost = set(said) - staying
    kept = [place for place, one in enumerate(tokens(prompts)) if one not in lost]
    return prompts.select(torch.tensor(kept, dtype=torch.int64))


def parameters_of(method: Method) -> dict[str, Any]:
    """The fields of a method as JSON values; those it starts from, where it stands at a preset."""
    return fields_of(starting_point(method))


@dataclass(frozen=True)
class Source:
    """Where the material of a model comes from.

    Args:
        text: the keys of a run file as JSON, or "" for a function.
        folder: where its paths start.
        function: ``module:function`` that returns a :class:`Material`.
        arguments: what it is called with, as canonical JSON.
        rows: keyed hashes of the ids of all training rows, sorted, one after another.
    """

    text: str
    folder: str
    function: str
    rows: bytes = b""
    arguments: str = "{}"

    @classmethod
    def of_run_file(cls, path: Path) -> Self:
        """A run file, read and checked; its requests and its judge are not part of it."""
        file = parsed(path).model_copy(update={"requests": [], "judge": None})
        return cls(file.model_dump_json(), str(path.resolve().parent), "")

    @classmethod
    def of_function(cls, name: str, arguments: Mapping[str, Any] = MappingProxyType({})) -> Self:
        """A function, by its name, and what it is called with."""
        return cls("", "", name, arguments=canonical(dict(arguments)).decode())

    def to_bytes(self) -> bytes:
        """As one line of canonical JSON, then the hashes."""
        told = {
            "text": self.text,
            "folder": self.folder,
            "function": self.function,
            "arguments": self.arguments,
        }
        return canonical(told) + b"\n" + self.rows

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """What :meth:`to_bytes` wrote."""
        told, _, rows = data.partition(b"\n")
        return cls(**json.loads(told), rows=rows)

    def material(self, weights: Mapping[str, Tensor] | None = None) -> Material:
        """Everything in memory; with the weights given, those of the source are not read, and
        neither is the record that belongs to them.

        Raises:
            ExpungeError: something of it is not there any more, or cannot be used.
        """
        if self.text:
            return Material.of(
                loaded(RunFile.model_validate_json(self.text), Path(self.folder), weights)
            )
        made = _made(self.function, json.loads(self.arguments))
        if weights is not None:
            return dataclasses.replace(made, model=made.with_weights(weights), record=None)
        return made


def _made(name: str, arguments: Mapping[str, Any]) -> Material:
    module, _, function = name.partition(":")
    if not module or not function:
        raise ExpungeError(f"The source {name!r} was given; 'module:function' is expected.")
    try:
        maker: Callable[..., object] = getattr(importlib.import_module(module), function)
        made = maker(**arguments)
    except ExpungeError:
        raise
    except Exception as error:  # the user's module may fail in any way
        raise ExpungeError(
            f"The source {name!r} cannot be used ({first_line(error)}); install the module, or "
            "register a run file."
        ) from None
    if not isinstance(made, Material):
        raise ExpungeError(
            f"The source {name!r} returned a {type(made).__name__}; an expunge.ledger.Material is "
            "expected."
        )
    return made


def with_rows(source: Source, material: Material, keys: Keys) -> Source:
    """The source that remembers which rows it was registered with."""
    return dataclasses.replace(source, rows=hashes_of_rows(keys, material.train.ids))


def check_rows(source: Source, material: Material, keys: Keys, gone: bytes) -> None:
    """Make sure that the training rows are those that were registered, less those forgotten.

    Args:
        source: with the hashes of the rows at registration.
        material: as it is now.
        keys: of the ledger.
        gone: hashes of the rows that answered requests named: these may be deleted.

    Raises:
        IntegrityError: there are new rows, or others are missing.
    """
    ids = material.train.ids
    new = int((~among(keys, ids, source.rows)).sum())
    here = hashes_of_rows(keys, ids)
    registered_rows = {source.rows[i : i + HASH] for i in range(0, len(source.rows), HASH)}
    now = {here[i : i + HASH] for i in range(0, len(here), HASH)}
    forgotten = {gone[i : i + HASH] for i in range(0, len(gone), HASH)}
    missing = len(registered_rows - now - forgotten)
    if new or missing:
        raise IntegrityError(
            f"The training rows are not those that the model was registered with: {new} are new "
            f"and {missing} are missing that no answered request named. Give the rows that the "
            "model was trained on, or register the model anew."
        )
