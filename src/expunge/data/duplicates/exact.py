"""Exact copies: equal content, found by its digest."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from expunge.data.duplicates.found import Match, Nearest, Positions


class Digested(Protocol):
    """Rows whose content has a digest each."""

    @property
    def digests(self) -> Sequence[bytes]:
        """One digest for each row; empty where a row holds nothing."""
        ...


def digest_of(content: bytes) -> bytes:
    """The first 16 bytes of the SHA-256, as for the ids of `expunge.data.own`."""
    return hashlib.sha256(content).digest()[:16]


@dataclass(frozen=True)
class ExactCopy:
    """Rows whose text is equal character for character, or whose pixels are equal.

    The pixels are compared, not the file: a picture that was stored again without loss is equal.
    """

    name: ClassVar[str] = "exact"

    def matches(self, queries: Digested, rows: Digested) -> list[Match]:
        """Every row with the digest of a query. Rows without content match nothing."""
        where: dict[bytes, list[int]] = defaultdict(list)
        for row, digest in enumerate(rows.digests):
            where[digest].append(row)
        return [
            Match(query, row, 1.0)
            for query, digest in enumerate(queries.digests)
            if digest
            for row in where.get(digest, ())
        ]

    def nearest(self, queries: Digested, rows: Digested, own: Positions | None = None) -> Nearest:
        """An equal row with similarity 1, else any other row with 0: equality has no degrees."""
        found = np.full(len(queries.digests), -1, np.int64)
        for match in reversed(self.matches(queries, rows)):
            if own is None or own[match.query] != match.row:
                found[match.query] = match.row
        return Nearest(found, (found >= 0).astype(np.float64))
