"""Present rows: which rows a record was made of, so that none goes twice or without being there.

A row is held as two digests: one of its id, and one of what was learned of it. Neither is secret:
whoever holds the record and guesses an id can tell whether that row is in it. Of a row that was
removed nothing is held. The digests stand in ascending order, whatever order the rows came in, so
that no gap is left either: the record without a row is the one that never had it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expunge.errors import ExpungeError

BYTES = 8
"""Of a digest. Two of 10^6 ids share one with a probability of 3e-8; the second is then refused."""


@dataclass(frozen=True, eq=False)
class PresentRows:
    """The rows that are there.

    Args:
        ids: int64 (n,), ascending: digests of the ids.
        contents: int64 (n,): digests of what was learned of each.
    """

    ids: Tensor
    contents: Tensor

    @classmethod
    def none(cls) -> "PresentRows":
        """No row."""
        return cls(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def having(self, names: Sequence[str], contents: Sequence[bytes]) -> "PresentRows":
        """These rows too.

        Args:
            names: ids of the rows.
            contents: what is learned of each, as bytes.

        Raises:
            ExpungeError: one of them is there already, or is given twice.
        """
        keys = each_once(names)
        at = torch.searchsorted(self.ids, keys)
        for place, name in zip(_found(self.ids, at, keys).tolist(), names, strict=True):
            if place:
                raise ExpungeError(
                    f"The row {name!r} is to be added and is there already; a row counts once. "
                    "Leave it out, remove it first, or give it an id of its own."
                )
        order = keys.argsort()
        places = at[order].numpy()
        return PresentRows(
            _inserted(self.ids, places, keys[order]),
            _inserted(self.contents, places, _digests(contents)[order]),
        )

    def without(self, names: Sequence[str], contents: Sequence[bytes]) -> "PresentRows":
        """The rows that are left without these.

        Raises:
            ExpungeError: one of them is not there, was added as something else, or is given twice.
        """
        keys, given = each_once(names), _digests(contents)
        at = torch.searchsorted(self.ids, keys)
        there = _found(self.ids, at, keys)
        for place, name in zip(there.tolist(), names, strict=True):
            if not place:
                raise ExpungeError(
                    f"The row {name!r} is to be removed and is not there: it was never added, or "
                    "was removed before. Nothing was changed; name rows that are still there."
                )
        for same, name in zip((self.contents[at] == given).tolist(), names, strict=True):
            if not same:
                raise ExpungeError(
                    f"The row {name!r} was added with another label or other features than it has "
                    "now: its content was changed since, or the machine, its threads or the "
                    "version of torch. Taking it away would leave something of it. Nothing was "
                    "changed; give the row as it was added, there where it was added, or train "
                    "the head anew without it."
                )
        left = torch.ones(len(self), dtype=torch.bool)
        left[at] = False
        return PresentRows(self.ids[left], self.contents[left])


def each_once(names: Sequence[str]) -> Tensor:
    """The digests int64 (m,) of ids, none of which stands there twice.

    Rows that come or go in parts are asked about together, before the first part: in the second one
    a row of the first is there already, or not any more, which would be said of it instead.

    Raises:
        ExpungeError: one of them is given twice.
    """
    keys = _digests([name.encode() for name in names])
    first: dict[int, str] = {}
    for key, name in zip(keys.tolist(), names, strict=True):
        if key in first:
            raise ExpungeError(
                f"The row {name!r} is given twice at once"
                + ("" if first[key] == name else f" (its id has the digest of {first[key]!r})")
                + "; give each row once."
            )
        first[key] = name
    return keys


def _found(known: Tensor, at: Tensor, keys: Tensor) -> Tensor:
    if len(known) == 0:
        return torch.zeros(len(keys), dtype=torch.bool)
    return (at < len(known)) & (known[at.clamp(max=len(known) - 1)] == keys)


def _inserted(
    values: Tensor, places: "np.ndarray[tuple[int], np.dtype[np.int64]]", new: Tensor
) -> Tensor:
    return torch.from_numpy(np.insert(values.numpy(), places, new.numpy()))


def _digests(contents: Sequence[bytes]) -> Tensor:
    """int64 (m,) of byte strings."""
    joined = b"".join(hashlib.blake2b(one, digest_size=BYTES).digest() for one in contents)
    return torch.from_numpy(np.frombuffer(joined, "<i8").astype(np.int64))
