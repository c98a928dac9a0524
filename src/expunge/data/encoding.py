"""Encoding: what turns raw text and pictures of a table into the tensors of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """Tokenised rows, all padded to one length.

    Args:
        fields: int64 (n, L) by the model's argument names.
        limit: longest row in tokens that was kept whole.
        cut: number of rows that were longer.
    """

    fields: Mapping[str, Tensor]
    limit: int
    cut: int


class Encoder(Protocol):
    """Reads rows the way a pretrained model expects them."""

    @property
    def reads_pictures(self) -> bool:
        """Whether it has a way of its own to read pictures."""
        ...

    def texts(self, rows: Sequence[str], max_length: int | None) -> Tokens:
        """Tokens of the rows, cut at ``max_length`` or at what the model can read.

        Raises:
            ExpungeError: it has no tokenizer.
        """
        ...

    def pictures(self, rows: Sequence[Any]) -> Tensor:
        """Pictures as the model reads them, float32 (n, channels, height, width)."""
        ...
