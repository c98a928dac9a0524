"""What a detector answers: the rows that match, and the nearest row where none does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
Similarity = Callable[[slice], npt.NDArray[np.float64]]
"""Part of the queries to its matrix (part, n) of similarities to all rows."""


@dataclass(frozen=True)
class Match:
    """A row that repeats what was looked for.

    Args:
        query: position among the rows looked for.
        row: position among the rows searched.
        similarity: 0 to 1, in the detector's own measure.
    """

    query: int
    row: int
    similarity: float


@dataclass(frozen=True)
class Nearest:
    """For each of q queries, the searched row that is most like it.

    Args:
        rows: positions (q,); -1 where nothing was searched.
        similarity: (q,) in the detector's own measure.
    """

    rows: Positions
    similarity: npt.NDArray[np.float64]


Content = TypeVar("Content", contravariant=True)  # noqa: PLC0105


class Detector(Protocol[Content]):
    """Finds rows that repeat others: a frozen dataclass whose fields are its thresholds."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def matches(self, queries: Content, rows: Content) -> list[Match]:
        """Every row that repeats a query, by query and then by row."""
        ...

    def nearest(self, queries: Content, rows: Content, own: Positions | None = None) -> Nearest:
        """The most similar row for each query, found or not.

        Args:
            queries: q things to look for.
            rows: what is searched.
            own: (q,) for each query a row that is not to be answered (itself), or -1.
        """
        ...


def best(similarity: npt.NDArray[np.float64], own: Positions | None) -> Nearest:
    """The nearest rows by a matrix (q, n) of similarities, which is changed in place."""
    queries, rows = similarity.shape
    if rows == 0:
        return Nearest(np.full(queries, -1), np.zeros(queries))
    if own is not None:
        some = np.flatnonzero(own >= 0)
        similarity[some, own[some]] = -np.inf
    found = similarity.argmax(1)
    score = similarity[np.arange(queries), found]
    return Nearest(np.where(np.isfinite(score), found, -1), np.where(np.isfinite(score), score, 0))


def nearest_by_parts(
    count: int, at_once: int, similarity: Similarity, own: Positions | None
) -> Nearest:
    """The nearest rows of ``count`` queries, ``at_once`` at a time, so that memory stays bounded.

    Args:
        count: number of queries q.
        at_once: queries whose similarities are held together.
        similarity: of a part of the queries to all rows.
        own: (q,) as in `Detector.nearest`.
    """
    rows, scores = [np.zeros(0, np.int64)], [np.zeros(0)]
    for start in range(0, count, at_once):
        part = slice(start, start + at_once)
        found = best(similarity(part), None if own is None else own[part])
        rows.append(found.rows)
        scores.append(found.similarity)
    return Nearest(np.concatenate(rows), np.concatenate(scores))


def matches_by_parts(
    count: int, at_once: int, similarity: Similarity, threshold: float
) -> list[Match]:
    """Every pair of at least ``threshold``, by query and then by row; as `nearest_by_parts`."""
    found = []
    for start in range(0, count, at_once):
        part = similarity(slice(start, start + at_once))
        for query, row in zip(*np.nonzero(part >= threshold), strict=True):
            found.append(Match(start + int(query), int(row), float(part[query, row])))
    return found
