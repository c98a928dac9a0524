"""Redacted: ids that are removed from what a model is served, by the kind of store they stand in.

A retrieval index, the memory of an agent, the edges of a graph: what is left out there is not
answered with any more, within the time of one request. The weights stay as they are and still know
what they learned from it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from expunge.changes.kinds import Redaction
from expunge.errors import IntegrityError
from expunge.storage import read_facts, read_tensors, write_tensors

NAMES = "ids:"
"""What the name of the tensor of a store begins with."""


@dataclass(frozen=True)
class Redacted:
    """A redaction of entries by their id.

    Args:
        removed: ids by kind of store, such as ``index``, ``memory`` or ``graph``; kept sorted, each
            once.
        facts: JSON values that travel with it.

    Raises:
        IntegrityError: no id is given, or a store or an id is no text.
    """

    removed: Mapping[str, Sequence[str]]
    facts: Mapping[str, object] = field(default_factory=dict)

    kind: ClassVar[str] = "redaction"

    def __post_init__(self) -> None:
        for store, ids in self.removed.items():
            texts = not isinstance(ids, str) and all(isinstance(name, str) for name in ids)
            if not store or not texts or not len(ids):
                raise IntegrityError(
                    f"The redaction gives the store {store!r} no ids, or some that are no text; a "
                    "store with a name, and a list of at least one id as text, are expected."
                )
        if not self.removed:
            raise IntegrityError(
                "The redaction names no store; ids by kind of store are expected, such as "
                "{'index': ('row 1', 'row 2')}."
            )
        ordered = {store: tuple(sorted(set(self.removed[store]))) for store in sorted(self.removed)}
        object.__setattr__(self, "removed", ordered)

    def merged(self, others: Sequence[Redaction]) -> Self:
        """One redaction of all that this and the others remove: their union, store by store."""
        every: tuple[Redaction, ...] = (self, *others)
        stores = dict.fromkeys(store for each in every for store in each.removed)
        removed = {store: tuple(removed_from(every, store)) for store in stores}
        return type(self)(removed, self.facts if not others else {})

    def save(self, path: Path) -> None:
        """Write one safetensors file. The ids are bytes of it, so that its digest covers them."""
        write_tensors(
            path,
            {NAMES + store: _bytes(ids) for store, ids in self.removed.items()},
            {"kind": self.kind, "facts": dict(self.facts)},
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a stored redaction.

        Raises:
            IntegrityError: the file is missing, damaged, or no redaction.
        """
        header = read_facts(path)
        if header.get("kind") != cls.kind:
            raise IntegrityError(
                f"{path} holds no redaction; give a file written by Redacted.save."
            )
        facts = header.get("facts")
        try:
            if not isinstance(facts, dict):
                raise ValueError("its header has no facts")
            removed = {
                name.removeprefix(NAMES): _ids(tensor)
                for name, tensor in read_tensors(path).items()
            }
            return cls(removed, facts)
        except IntegrityError:
            raise
        except (ValueError, TypeError) as error:
            raise IntegrityError(
                f"{path} is damaged: it is no whole redaction ({error}); restore the file from "
                "its source."
            ) from None


def _bytes(ids: Sequence[str]) -> Tensor:
    """Ids as the bytes (n,) of a JSON list."""
    return torch.tensor(list(json.dumps(list(ids)).encode()), dtype=torch.uint8)


def _ids(tensor: Tensor) -> tuple[str, ...]:
    if tensor.dtype != torch.uint8:
        raise ValueError(f"ids are {tensor.dtype} and bytes are expected")
    found = json.loads(bytes(tensor.tolist()))
    if not isinstance(found, list):
        raise ValueError("ids are no list")
    return tuple(found)


def removed_from(redactions: Iterable[Redaction], store: str) -> frozenset[str]:
    """Every id that any of these redactions removes from a store."""
    return frozenset(name for each in redactions for name in each.removed.get(store, ()))
