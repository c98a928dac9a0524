"""Near-duplicates of pictures: perceptual hashes that pixels confirm, and distance of embeddings.

C. Zauner (2010). Implementation and Benchmarking of Perceptual Image Hash Functions (the hash of
the lowest frequencies); the difference hash compares neighbouring pixels. Both are those of
`imagehash`. A hash only proposes pairs; each is then measured on small copies of the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from expunge.data.duplicates.exact import digest_of
from expunge.data.duplicates.found import (
    Match,
    Nearest,
    Positions,
    matches_by_parts,
    nearest_by_parts,
)

SIDE = 32
"""Side of the small copies that are compared, in pixels: 3 kB for a picture."""
BITS = 64
"""Bits of one hash."""
AT_ONCE = 256
ROWS_AT_ONCE = 8192

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Sequence[Image.Image]], Vectors]
"""Pictures (n) to vectors (n, d)."""


@dataclass(frozen=True)
class Pictures:
    """Pictures and what is compared of them.

    Args:
        digests: of size and RGB pixels.
        hashes: (n, 2, 64) int8 of -1 and 1: perceptual and difference hash.
        small: (n, 32, 32, 3) uint8, the pictures brought to one size.
        vectors: (n, d) unit vectors of an embedding, where one was asked for.
    """

    digests: Sequence[bytes]
    hashes: npt.NDArray[np.int8]
    small: npt.NDArray[np.uint8]
    vectors: Vectors | None = None

    @classmethod
    def of(cls, values: Iterable[Image.Image | None], embed: Embed | None = None) -> Pictures:
        """Pictures from decoded ones, about 0.5 ms and 3.3 kB each; None is an empty picture.

        What is transparent is drawn on white.
        """
        digests, hashes, small, vectors, waiting = [], [], [], [], []
        for value in values:
            drawn = Image.new("RGB", (1, 1), "white") if value is None else opaque(value)
            size = repr(drawn.size).encode()
            digests.append(b"" if value is None else digest_of(size + drawn.tobytes()))
            tiny = drawn.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            small.append(np.asarray(tiny))
            hashes.append(_hashes(drawn))
            if embed is not None:
                waiting.append(drawn)
                if len(waiting) == AT_ONCE:
                    vectors.append(_unit(embed(waiting)))
                    waiting = []
        if embed is not None and waiting:
            vectors.append(_unit(embed(waiting)))
        return cls(
            digests,
            np.array(hashes, np.int8).reshape(-1, 2, BITS),
            np.array(small, np.uint8).reshape(-1, SIDE, SIDE, 3),
            np.concatenate(vectors) if vectors else None,
        )

    def __len__(self) -> int:
        return len(self.digests)

    def select(self, rows: Sequence[int]) -> Pictures:
        """The pictures at these positions."""
        kept = np.array(rows, np.int64)
        vectors = None if self.vectors is None else self.vectors[kept]
        return Pictures(
            [self.digests[i] for i in rows], self.hashes[kept], self.small[kept], vectors
        )

    def plus(self, other: Pictures) -> Pictures:
        """These pictures, then the others; with vectors where both have them."""
        vectors = None
        if self.vectors is not None and other.vectors is not None:
            vectors = np.concatenate([self.vectors, other.vectors])
        return Pictures(
            [*self.digests, *other.digests],
            np.concatenate([self.hashes, other.hashes]),
            np.concatenate([self.small, other.small]),
            vectors,
        )


def opaque(picture: Image.Image) -> Image.Image:
    """The picture as RGB; what is transparent is drawn on white."""
    if picture.mode == "RGB":
        return picture
    if "A" in picture.getbands() or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def _hashes(picture: Image.Image) -> list[npt.NDArray[np.int8]]:
    grey = picture.convert("L")
    found = (imagehash.phash(grey).hash, imagehash.dhash(grey).hash)
    return [np.where(bits.reshape(-1), 1, -1).astype(np.int8) for bits in found]


def _unit(vectors: Vectors) -> Vectors:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)


@dataclass(frozen=True)
class NearPicture:
    """The same picture in another size, compression or slightly other colours.

    Similarity is 1 - |a - b|^2 / (|a - m|^2 + |b - m|^2) over the small copies, m the colour that
    is their common mean: 1 for equal pictures, about 0 for unrelated ones. It measures what
    differs against what there is to see, so that small drawings on a large background are not
    alike because of the background. Pictures of nearly one colour have hashes of noise: they are
    measured without asking the hash, against a contrast of at least ``contrast``.

    Args:
        threshold: least similarity of a near-duplicate.
        bits: a pair is measured where one of the two hashes differs in at most so many of 64 bits.
        contrast: standard deviation of pixels, in levels of 255, below which a picture has nearly
            one colour.
    """

    name: ClassVar[str] = "perceptual hash"

    threshold: float = 0.96
    bits: int = 6
    contrast: float = 3.0

    def matches(self, queries: Pictures, rows: Pictures) -> list[Match]:
        """Every row that a hash proposes and the pixels confirm."""
        found = []
        for query, others in enumerate(self._proposed(queries, rows)):
            one = queries.small[query : query + 1]
            similarity = self.similarity(one, rows.small[others])[0]
            for row, value in zip(others, similarity, strict=True):
                if value >= self.threshold:
                    found.append(Match(query, int(row), float(value)))
        return found

    def nearest(self, queries: Pictures, rows: Pictures, own: Positions | None = None) -> Nearest:
        """The row whose pixels are most alike, by comparing with every row: no hash is used."""
        return nearest_by_parts(
            len(queries),
            AT_ONCE,
            lambda part: self.similarity(queries.small[part], rows.small),
            own,
        )

    def similarity(
        self, queries: npt.NDArray[np.uint8], rows: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float64]:
        """All similarities (q, n) of small copies (q, 32, 32, 3) and (n, 32, 32, 3)."""
        blocks = [
            self._similarity(_flat(queries), _flat(rows[start : start + ROWS_AT_ONCE]))
            for start in range(0, len(rows), ROWS_AT_ONCE)
        ]
        return np.concatenate([np.zeros((len(queries), 0)), *blocks], axis=1)

    def _similarity(self, one: Vectors, other: Vectors) -> npt.NDArray[np.float64]:
        size = one.shape[1]
        square = (one**2).sum(1)[:, None] + (other**2).sum(1)
        apart = np.maximum(square - 2 * (one @ other.T), 0)
        mean = [v.reshape(len(v), -1, 3).mean(1) for v in (one, other)]  # (., 3)
        common = (mean[0][:, None] + mean[1]) / 2  # (q, n, 3)
        inside = 2 * (size / 3) * (common**2).sum(2)
        spread = square - inside
        floor = 2 * size * self.contrast**2
        return np.asarray(1 - apart / np.maximum(spread, floor), np.float64)

    def _proposed(self, queries: Pictures, rows: Pictures) -> Iterable[Positions]:
        flat = self._nearly_one_colour(rows)
        query_flat = self._nearly_one_colour(queries)
        wide = rows.hashes.astype(np.float32)
        for query in range(len(queries)):
            if query_flat[query]:
                yield np.flatnonzero(flat)
                continue
            agreement = np.einsum("nhb,hb->nh", wide, queries.hashes[query].astype(np.float32))
            near = ((BITS - agreement) / 2 <= self.bits).any(1)
            yield np.flatnonzero(near & ~flat)

    def _nearly_one_colour(self, pictures: Pictures) -> npt.NDArray[np.bool_]:
        blocks = [
            _flat(pictures.small[start : start + ROWS_AT_ONCE]).reshape(-1, SIDE * SIDE, 3)
            for start in range(0, len(pictures), ROWS_AT_ONCE)
        ]
        spread = [block.std(1).max(1) for block in blocks]
        return np.concatenate([np.zeros(0), *spread]) < self.contrast


def _flat(small: npt.NDArray[np.uint8]) -> Vectors:
    return small.reshape(len(small), -1).astype(np.float32)


@dataclass(frozen=True)
class NearEmbedding:
    """Pictures whose embeddings point the same way.

    Similarity is the cosine of vectors from which the mean vector of the searched rows was taken.
    It sees through crops and small turns that move pixels, and needs a network's pass over every
    picture.

    Args:
        threshold: least cosine of a near-duplicate.
    """

    name: ClassVar[str] = "embedding"

    threshold: float = 0.9

    def matches(self, queries: Pictures, rows: Pictures) -> list[Match]:
        """Every row close enough to a query."""
        cosine = partial(self._cosine, queries, rows)
        return matches_by_parts(len(queries), AT_ONCE, cosine, self.threshold)

    def nearest(self, queries: Pictures, rows: Pictures, own: Positions | None = None) -> Nearest:
        """The row of highest cosine."""
        cosine = partial(self._cosine, queries, rows)
        return nearest_by_parts(len(queries), AT_ONCE, cosine, own)

    def _cosine(self, queries: Pictures, rows: Pictures, part: slice) -> npt.NDArray[np.float64]:
        if queries.vectors is None or rows.vectors is None:
            return np.zeros((len(range(len(queries))[part]), len(rows)))
        centre = rows.vectors.mean(0)
        one, other = _unit(queries.vectors[part] - centre), _unit(rows.vectors - centre)
        return np.asarray(one @ other.T, np.float64)
