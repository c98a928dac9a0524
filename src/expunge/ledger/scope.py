"""The scope of a request: what it names, in the user's words, and how little of that is kept.

The words stand in one encrypted object. Beside it the ledger keeps keyed hashes alone: of every
named value, so that a second request for the same person is recognised, and of every row, so that
the rows stay left out of later trainings after the words were destroyed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

from expunge.ledger.canonical import canonical
from expunge.ledger.keys import Keys
from expunge.requests import Request, Rows


@dataclass(frozen=True)
class Scope:
    """What a request names.

    Args:
        name: what people call it.
        column: of the training table: ``id``, ``subject``, ``label``, ``concept`` ...
        values: whose rows are to be forgotten.
        anchor: the concept in the place of the target, where a method needs one.
        text: the words that a model which is told sentences must not draw.
    """

    name: str
    column: str
    values: tuple[str, ...]
    anchor: str | None = None
    text: str = ""

    @property
    def kind(self) -> str:
        """The field's word for such a request."""
        return self.target.kind

    @property
    def target(self) -> Rows:
        """The rows it means."""
        return Rows(self.column, self.values)

    def request(self) -> Request:
        """The request as it is worded."""
        labels = tuple(int(v) for v in self.values if v.isdecimal()) * (self.column == "label")
        return Request(self.name, self.target, self.anchor, labels, self.text)

    def hashes(self, keys: Keys) -> tuple[str, ...]:
        """One keyed hash for each value, sorted."""
        return tuple(
            sorted({keys.hashed("subject", f"{self.column}={value}") for value in self.values})
        )

    def hashed(self, keys: Keys) -> str:
        """A keyed hash of all that the request asks for, without its name."""
        return keys.hashed("scope", self.request().digest())

    def to_bytes(self, metadata: Mapping[str, Any] = MappingProxyType({})) -> bytes:
        """The scope as canonical JSON, with what the user put beside it."""
        told = {**asdict(self), "values": list(self.values)}
        if not self.text:  # as scopes were written before there were texts
            del told["text"]
        return canonical({**told, "metadata": dict(metadata)})

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """What :meth:`to_bytes` wrote."""
        found = json.loads(data)
        values, text = tuple(found["values"]), found.get("text", "")
        return cls(found["name"], found["column"], values, found["anchor"], text)


HASH = 32
"""Bytes of a keyed hash."""


def hashes_of_rows(keys: Keys, ids: Sequence[str]) -> bytes:
    """Keyed hashes of row ids, sorted, one after another."""
    return b"".join(sorted(bytes.fromhex(keys.hashed("row", name)) for name in ids))


def held_out_names(ids: Sequence[str]) -> list[str]:
    """The names under which ids of held-out rows are hashed: they may be ids of training rows."""
    return [f"held out/{name}" for name in ids]


def among(keys: Keys, ids: Sequence[str], hashes: bytes) -> Tensor:
    """Which rows (n,) bool have their hash in ``hashes``."""
    known = {hashes[i : i + HASH] for i in range(0, len(hashes), HASH)}
    return torch.tensor(
        [bytes.fromhex(keys.hashed("row", name)) in known for name in ids], dtype=torch.bool
    )
