"""Encoding: what turns raw text and pictures of a table into the tensors of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor

IGNORED = -100
"""The label of a token that is no part of an answer."""

Parts = Sequence[tuple[int, int]]
"""Of each prompt the first letter of a part, and the one after its last; empty for none."""


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


@dataclass(frozen=True)
class Lines:
    """Prompts and answers as tokens, row by row, neither padded nor cut.

    Args:
        prompts: tokens before the answer, with the one that begins every line.
        answers: tokens of the answer, with those that end it.
        end: number of tokens at the end of each answer that only end it.
        parted: rows whose tokens of prompt and answer together do not begin with those of the
            prompt; there the answer was tokenised by itself.
        unknown: rows with an answer token that stands for text the tokenizer does not know.
        spans: of each prompt the position of the first token of a part of its text, and the one
            after its last, None where they cannot be told; empty where no part was asked for.
    """

    prompts: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]
    end: int
    parted: Sequence[int] = ()
    unknown: Sequence[int] = ()
    spans: Sequence[tuple[int, int] | None] = ()

    @property
    def unended(self) -> list[Sequence[int]]:
        """The answers without the tokens that only end them."""
        return [answer[: len(answer) - self.end] for answer in self.answers]


def padded(
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    padding: int = 0,
    width: int = 0,
) -> dict[str, Tensor]:
    """Prompts and answers as the rows of a language model, padded on the right.

    Args:
        prompts: tokens before each answer.
        answers: tokens of each answer.
        padding: the token that fills rows up.
        width: least length of the rows; they are as long as the longest of them.

    Returns:
        ``input_ids`` and ``labels``, int64 (n, L); labels repeat the answers and hold
        :data:`IGNORED` elsewhere.
    """
    pairs = list(zip(prompts, answers, strict=True))
    width = max([width, *(len(prompt) + len(answer) for prompt, answer in pairs)])
    ids = torch.full((len(pairs), width), padding)
    labels = torch.full((len(pairs), width), IGNORED)
    for row, (prompt, answer) in enumerate(pairs):
        start, end = len(prompt), len(prompt) + len(answer)
        ids[row, :end] = torch.tensor([*prompt, *answer])
        labels[row, start:end] = torch.tensor(answer)
    return {"input_ids": ids, "labels": labels}


def prompt_tokens(ids: Tensor, labels: Tensor) -> list[Tensor]:
    """The tokens (l,) before the answer of each row (n, L); none where a row has no answer."""
    starts = (labels != IGNORED).int().argmax(1).tolist()
    return [row[:start] for row, start in zip(ids, starts, strict=True)]


def answer_tokens(labels: Tensor) -> list[Tensor]:
    """The answer tokens (l,) of each row of labels (n, L)."""
    return [row[row != IGNORED] for row in labels]


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


class LineEncoder(Protocol):
    """Reads prompts and answers the way a language model expects them."""

    @property
    def context(self) -> int | None:
        """Tokens that a line may have; None where neither model nor tokenizer says."""
        ...

    @property
    def padding(self) -> int:
        """The token that fills short lines; it is never read."""
        ...

    def lines(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        separator: str,
        chat: bool,
        parts: Parts = (),
    ) -> Lines:
        """Prompts and answers as tokens; see :mod:`expunge.data.prompts`.

        Args:
            prompts: before each answer.
            answers: what is learned.
            separator: between them, without ``chat``.
            chat: the chat template joins them.
            parts: of the prompts, whose tokens are asked for.

        Raises:
            ExpungeError: there is no tokenizer, no chat template, or the tokenizer knows more
                tokens than the model.
        """
        ...


def reads_lines(encoder: object) -> TypeGuard[LineEncoder]:
    """Whether an encoder, or None, reads prompts and answers."""
    return hasattr(type(encoder), "lines")
