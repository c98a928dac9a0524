"""Requests: what is to be removed, and the rows that this names.

A request says its target in the user's words (ids, a subject, a class, a concept). Resolving it
against a table of samples gives the rows to forget; everything else that is not already forgotten
is the retain set.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from expunge.errors import ExpungeError


class Named(Protocol):
    """A table whose columns can be read by name, such as a ``datasets.Dataset``."""

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        ...

    def __getitem__(self, key: str) -> Sequence[object]: ...

    def __len__(self) -> int: ...


class Target(Protocol):
    """What a request names; each kind finds its own rows."""

    @property
    def kind(self) -> str:
        """The field's word for it: samples, subject, class, concept ..."""
        ...

    def rows(self, table: Named) -> Tensor:
        """Positions (n,) int64 of the named rows, ascending.

        Raises:
            ExpungeError: the table does not know the column or a value.
        """
        ...

    def describe(self) -> Mapping[str, object]:
        """The target as JSON values."""
        ...


@dataclass(frozen=True)
class Rows:
    """Every row whose ``column`` holds one of ``values``.

    ``Rows("id", ...)`` names samples, ``Rows("subject", ...)`` a person or thing,
    ``Rows("label", ...)`` a class, ``Rows("concept", ...)`` a concept.
    """

    column: str
    values: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The column's word for a request."""
        return {"id": "samples", "label": "class"}.get(self.column, self.column)

    def rows(self, table: Named) -> Tensor:
        """Positions of the rows that hold one of the values."""
        if self.column not in table.column_names:
            raise ExpungeError(
                f"The request names the column {self.column!r}; the table has "
                f"{', '.join(sorted(table.column_names))}. Name one of these."
            )
        if not self.values:
            raise ExpungeError(
                f"The request names no value of {self.column!r}; at least one is expected. "
                "Say what is to be forgotten."
            )
        column = [str(value) for value in table[self.column][:]]
        known = set(column)
        for value in self.values:
            if value not in known:
                close = difflib.get_close_matches(value, sorted(known), n=3)
                hint = (
                    f"Did you mean {' or '.join(map(repr, close))}?"
                    if close
                    else (f"There are {len(known)} values, such as {sorted(known)[0]!r}.")
                )
                raise ExpungeError(
                    f"The request names {value!r}, which the column {self.column!r} does not "
                    f"hold. {hint}"
                )
        wanted = set(self.values)
        return torch.tensor([i for i, v in enumerate(column) if v in wanted], dtype=torch.int64)

    def describe(self) -> Mapping[str, object]:
        """The column and its values, each once, in alphabetical order."""
        return {"column": self.column, "values": sorted(set(self.values))}


@dataclass(frozen=True)
class Request:
    """One removal request. Methods without data read only this.

    Args:
        name: what people call it.
        target: which rows or parts it means.
        anchor: the concept that takes the place of the target, where a method needs one.
        labels: class indices of the target, where the model has classes.
        text: the target in words, for methods that read a description.
    """

    name: str
    target: Target
    anchor: str | None = None
    labels: tuple[int, ...] = ()
    text: str = ""

    def digest(self) -> str:
        """SHA-256 of what the request asks for: its target, words and anchor, not its name."""
        asked = {"kind": self.target.kind, "anchor": self.anchor, **self.target.describe()}
        if self.text:
            asked["text"] = self.text
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Resolved:
    """Positions (n,) of the rows to forget and of those to retain."""

    forget: Tensor
    retain: Tensor
    train: Tensor
    """Those to forget and those to retain together, save what earlier requests removed."""
    excluded: tuple[str, ...] = field(default=())
    """Digests of the earlier requests whose rows are neither retained nor trained on."""


def resolve(request: Request, table: Named, earlier: Sequence[Request] = ()) -> Resolved:
    """The rows that a request names; what earlier requests removed is neither
    retained nor trained on.

    Raises:
        ExpungeError: nothing is named, everything is named, or the request was made before.
    """
    if any(request.digest() == past.digest() for past in earlier):
        raise ExpungeError(
            f"The request {request.name!r} was made before; its rows are already forgotten. "
            "Measure it again with `expunge evaluate`."
        )
    forget = request.target.rows(table)
    total = len(table)
    kept = torch.ones(total, dtype=torch.bool)
    kept[forget] = False
    if len(forget) == 0:
        raise ExpungeError(
            f"The request {request.name!r} names no row; at least one is expected. "
            "Check its values against the columns of the table."
        )
    if not kept.any():
        raise ExpungeError(
            f"The request {request.name!r} names all {total} rows; nothing would be left to "
            "retain. Withdraw the model instead, or name fewer rows."
        )
    train = torch.ones(total, dtype=torch.bool)
    for past in earlier:
        train[past.target.rows(table)] = False
    kept &= train
    if not kept.any():
        raise ExpungeError(
            f"With the {len(earlier)} earlier requests, {request.name!r} leaves no row to retain; "
            "retrain on other data instead."
        )
    excluded = tuple(past.digest() for past in earlier)
    return Resolved(forget, kept.nonzero().reshape(-1), train.nonzero().reshape(-1), excluded)


NO_REQUEST = Request("none", Rows("id", ()))
"""What a learner trains under: nothing is to be removed."""
