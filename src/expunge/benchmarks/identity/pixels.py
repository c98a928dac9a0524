"""Pictures of bytes that become numbers batch by batch: thirty thousand faces fit into memory."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from expunge.data.samples import ROW, Batch
from expunge.errors import ExpungeError


@dataclass(frozen=True, eq=False)
class PixelSamples:
    """Samples with the fields ``image`` (B, 3, side, side), from 0 to 1, and ``label`` (B,).

    Args:
        ids: of each row.
        subjects: the person of each row.
        pixels: uint8 (n, 3, side, side).
        labels: int64 (n,).
    """

    ids: Sequence[str]
    subjects: Sequence[str]
    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        sizes = {len(self.ids), len(self.subjects), len(self.pixels), len(self.labels)}
        if len(sizes) > 1:
            raise ExpungeError(
                f"Pictures came with {len(self.ids)} ids, {len(self.subjects)} subjects, "
                f"{len(self.pixels)} pictures and {len(self.labels)} labels; one of each a row is "
                "expected."
            )

    @property
    def fields(self) -> frozenset[str]:
        """Picture and label."""
        return frozenset({"image", "label"})

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        """The named fields of ``rows`` (B,), and ``row``."""
        found: dict[str, Tensor] = {ROW: rows}
        for name in self.fields if fields is None else fields:
            column = {"image": self.pixels, "label": self.labels}[name][rows]
            found[name] = column.float() / 255 if name == "image" else column
        return found

    def select(self, rows: Tensor) -> Self:
        """The samples at these positions."""
        at = rows.tolist()
        return type(self)(
            [self.ids[i] for i in at],
            [self.subjects[i] for i in at],
            self.pixels[rows],
            self.labels[rows],
        )
