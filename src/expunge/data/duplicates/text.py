"""Near-duplicates of texts: MinHash over word shingles, and passages that another text quotes.

A. Broder (1997). On the Resemblance and Containment of Documents (shingles, resemblance = Jaccard,
containment). P. Indyk, R. Motwani (1998). Approximate Nearest Neighbors: Towards Removing the Curse
of Dimensionality (the bands of locality-sensitive hashing); the sketches are those of `datasketch`.
A sketch only proposes pairs; each is then measured on the shingles themselves.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

from expunge.data.duplicates.exact import digest_of
from expunge.data.duplicates.found import (
    Match,
    Nearest,
    Positions,
    matches_by_parts,
    nearest_by_parts,
)
from expunge.data.duplicates.normal import words

if TYPE_CHECKING:
    from datasketch import MinHash

Shingles = npt.NDArray[np.uint32]
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 / golden ratio: spreads what it multiplies
AT_ONCE = 64
"""Queries that are compared with all rows at a time: 64 x 50,000 similarities are 26 MB."""


@dataclass(frozen=True)
class Texts:
    """Texts and what is compared of them.

    Args:
        raw: the texts as they are stored.
        digests: of the text as it is stored.
        plain: digests of the normalised words in order.
        shingles: for each text, the 32-bit hashes of its words and of its pairs of neighbouring
            words, ascending, each once.
        runs: for each text, the hashes of its runs of three words, ascending, each once.
    """

    raw: Sequence[str]
    digests: Sequence[bytes]
    plain: Sequence[bytes]
    shingles: Sequence[Shingles]
    runs: Sequence[Shingles]

    @classmethod
    def of(cls, values: Sequence[str]) -> Texts:
        """Texts from strings; about 0.2 ms and 8 bytes a word each."""
        raw = ["" if value is None else str(value) for value in values]
        seen: dict[str, int] = {}
        plain, shingles, runs = [], [], []
        for text in raw:
            found = words(text)
            plain.append(digest_of(" ".join(found).encode()) if found else b"")
            codes = np.array([_code(word, seen) for word in found], np.uint64)
            shingles.append(np.union1d(_runs(codes, 1), _runs(codes, 2)))
            runs.append(np.unique(_runs(codes, 3)))
        return cls(raw, [digest_of(t.encode()) if t else b"" for t in raw], plain, shingles, runs)

    def __len__(self) -> int:
        return len(self.raw)

    def select(self, rows: Sequence[int]) -> Texts:
        """The texts at these positions."""
        parts = (self.raw, self.digests, self.plain, self.shingles, self.runs)
        return Texts(*([part[i] for i in rows] for part in parts))  # type: ignore[arg-type]

    def plus(self, other: Texts) -> Texts:
        """These texts, then the others."""
        return Texts(
            [*self.raw, *other.raw],
            [*self.digests, *other.digests],
            [*self.plain, *other.plain],
            [*self.shingles, *other.shingles],
            [*self.runs, *other.runs],
        )


def _code(word: str, seen: dict[str, int]) -> int:
    found = seen.get(word)
    if found is None:
        found = seen[word] = zlib.crc32(word.encode())
    return found


def _runs(codes: npt.NDArray[np.uint64], length: int) -> Shingles:
    """Hashes of every run of ``length`` words; the length is part of the hash."""
    count = len(codes) - length + 1
    if count < 1:
        return np.zeros(0, np.uint32)
    mixed = np.full(count, length, np.uint64)
    for place in range(length):
        mixed = (mixed ^ codes[place : place + count]) * SPREAD
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(32)).astype(np.uint32)


@dataclass(frozen=True)
class PlainText:
    """Texts whose words are the same in the same order: case, accents, punctuation, space differ.

    Rows that are equal character for character are among them.
    """

    name: ClassVar[str] = "same words"

    def matches(self, queries: Texts, rows: Texts) -> list[Match]:
        """Every row with the words of a query; a text without words matches nothing."""
        where: dict[bytes, list[int]] = {}
        for row, digest in enumerate(rows.plain):
            where.setdefault(digest, []).append(row)
        return [
            Match(query, row, 1.0)
            for query, digest in enumerate(queries.plain)
            if digest
            for row in where.get(digest, ())
        ]


@dataclass(frozen=True)
class NearText:
    """Texts that share most of their words and pairs of words.

    Similarity is the Jaccard index of the two sets of shingles. Texts of fewer than ``few`` words
    have so few shingles that unrelated ones agree by chance, and have a threshold of their own.

    Args:
        threshold: least similarity of a near-duplicate.
        few: shingles of the query below which it counts as short; 2n - 1 for n different words.
        threshold_of_few: least similarity where the query is short.
        permutations: length of the MinHash sketch.
        rows_of_band: sketch values that must agree for a pair to be measured. With 128 and 3, a
            pair of Jaccard index 0.5 is measured with probability 0.996, one of 0.1 with 0.04.
        seed: of the permutations.
    """

    name: ClassVar[str] = "minhash"

    threshold: float = 0.6
    few: int = 40
    threshold_of_few: float = 0.55
    permutations: int = 128
    rows_of_band: int = 3
    seed: int = 1

    def matches(self, queries: Texts, rows: Texts) -> list[Match]:
        """Every row that the sketches propose and the shingles confirm."""
        found = []
        for query, row in self._proposed(queries, rows):
            similarity = jaccard(queries.shingles[query], rows.shingles[row])
            if similarity >= self.least(len(queries.shingles[query])):
                found.append(Match(query, row, similarity))
        return sorted(found, key=lambda m: (m.query, m.row))

    def nearest(self, queries: Texts, rows: Texts, own: Positions | None = None) -> Nearest:
        """The row of highest Jaccard index, by comparing with every row: no sketch is used."""
        similarity = partial(_all_jaccard, queries.shingles, rows.shingles)
        return nearest_by_parts(len(queries), AT_ONCE, similarity, own)

    def least(self, shingles: int) -> float:
        """The threshold for a query with this many shingles."""
        return self.threshold_of_few if shingles < self.few else self.threshold

    def _proposed(self, queries: Texts, rows: Texts) -> Iterator[tuple[int, int]]:
        # half a second to import, which every command would otherwise spend at its start
        from datasketch import MinHash, MinHashLSH

        bands = self.permutations // self.rows_of_band
        index = MinHashLSH(num_perm=self.permutations, params=(bands, self.rows_of_band))
        sketch = MinHash(self.permutations, self.seed, hashfunc=int)
        for query, shingles in enumerate(queries.shingles):
            if len(shingles):
                index.insert(query, _sketched(sketch, shingles))
        for row, shingles in enumerate(rows.shingles):
            if len(shingles):
                for query in index.query(_sketched(sketch, shingles)):
                    yield int(query), row


def _sketched(empty: MinHash, shingles: Shingles) -> MinHash:
    made = empty.copy()
    made.update_batch(shingles.tolist())
    return made


@dataclass(frozen=True)
class QuotedText:
    """Texts that hold most of a query, whatever else they hold: quotations, collections, forwards.

    Similarity is the containment: the share of the query's runs of three words that stand in the
    row. Runs that stand in many rows (signatures, footers) are left out of it.

    Args:
        threshold: least share of the query's runs.
        least_runs: a query with fewer uncommon runs is too short to be recognised in a longer text.
        common: share of the searched rows above which a run says nothing.
        always: a run in no more rows than this is never called common.
    """

    name: ClassVar[str] = "quoted"

    threshold: float = 0.6
    least_runs: int = 12
    common: float = 0.01
    always: int = 20

    def matches(self, queries: Texts, rows: Texts) -> list[Match]:
        """Every row that holds enough of a query."""
        share = partial(self._containment, queries, rows)
        return matches_by_parts(len(queries), AT_ONCE, share, self.threshold)

    def nearest(self, queries: Texts, rows: Texts, own: Positions | None = None) -> Nearest:
        """The row that holds most of each query."""
        share = partial(self._containment, queries, rows)
        return nearest_by_parts(len(queries), AT_ONCE, share, own)

    def _containment(self, queries: Texts, rows: Texts, part: slice) -> npt.NDArray[np.float64]:
        runs = queries.runs[part]
        known = _known(runs)
        held, asked = _incidence(rows.runs, known), _incidence(runs, known)
        frequent = max(self.always, self.common * len(rows))
        telling = np.asarray(held.sum(0)).reshape(-1) <= frequent
        asked = asked @ sparse.diags(telling.astype(np.float64))
        total = np.asarray(asked.sum(1)).reshape(-1, 1)
        shared = (asked @ held.T).toarray()
        enough = total >= self.least_runs
        return np.asarray(np.where(enough, shared / np.maximum(total, 1), 0.0), np.float64)


def jaccard(one: Shingles, other: Shingles) -> float:
    """Size of the intersection over that of the union of two sets; 0 where both are empty."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    union = len(one) + len(other) - shared
    return shared / union if union else 0.0


def _known(sets: Sequence[Shingles]) -> Shingles:
    return np.unique(np.concatenate([np.zeros(0, np.uint32), *sets]))


def _incidence(sets: Sequence[Shingles], known: Shingles) -> sparse.csr_array:
    """Which set (n) holds which known shingle (v): a sparse matrix (n, v) of zeros and ones."""
    sizes = np.array([len(s) for s in sets], np.int64)
    everything = np.concatenate([np.zeros(0, np.uint32), *sets])
    column = np.searchsorted(known, everything)
    inside = column < len(known)
    inside[inside] = known[column[inside]] == everything[inside]
    row = np.repeat(np.arange(len(sets)), sizes)[inside]
    ones = np.ones(int(inside.sum()))
    return sparse.csr_array((ones, (row, column[inside])), shape=(len(sets), len(known)))


def _all_jaccard(
    queries: Sequence[Shingles], rows: Sequence[Shingles], part: slice
) -> npt.NDArray[np.float64]:
    asked = queries[part]
    known = _known(asked)
    shared = (_incidence(asked, known) @ _incidence(rows, known).T).toarray()
    sizes = np.array([len(s) for s in rows], np.float64)
    union = np.array([[len(s)] for s in asked], np.float64) + sizes - shared
    return np.asarray(shared / np.maximum(union, 1), np.float64)
