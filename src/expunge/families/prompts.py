"""From sentences to the tokens of a text encoder, and one concept put in the place of another."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge.errors import ExpungeError


@dataclass(frozen=True)
class PromptTokens:
    """A vocabulary of whole words: begin, the words, end, and padding up to a length.

    Args:
        words: in the order of their tokens, after the three special ones.
        length: L, tokens of a sentence.
    """

    words: tuple[str, ...] = ()
    length: int = 16

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return len(self.words) + 3

    @property
    def specials(self) -> tuple[int, int, int]:
        """The tokens that begin a sentence, end it, and fill it up."""
        return 1, 2, 0

    def of(self, texts: Sequence[str]) -> Tensor:
        """Tokens (n, L) int64.

        Raises:
            ExpungeError: a word is not in the vocabulary, or a sentence is too long.
        """
        begin, end, padding = self.specials
        rows = []
        for text in texts:
            row = [begin, *self.inner(text), end]
            if len(row) > self.length:
                raise ExpungeError(
                    f"The sentence {text!r} has {len(row)} tokens; at most {self.length} are "
                    "expected. Shorten it."
                )
            rows.append(row + [padding] * (self.length - len(row)))
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.length)

    def inner(self, text: str) -> list[int]:
        """The tokens of some words alone.

        Raises:
            ExpungeError: one is not in the vocabulary.
        """
        found = []
        for word in text.split():
            if word not in self.words:
                raise ExpungeError(
                    f"The word {word!r} of {text!r} is not among the {len(self.words)} words that "
                    "this model was taught; use those of its prompts."
                )
            found.append(self.words.index(word) + 3)
        return found

    def holding(self, tokens: Tensor, words: str) -> Tensor:
        """Which rows (n,) of tokens (n, L) hold ``words``."""
        wanted = self._wanted(words)
        return torch.tensor([_place(row, wanted) is not None for row in tokens.tolist()])

    def exchanged(self, tokens: Tensor, words: str, by: str) -> Tensor:
        """Tokens (n, L) with those of ``by`` wherever a row held those of ``words``.

        Raises:
            ExpungeError: a row grows too long.
        """
        wanted, other = self._wanted(words), self.inner(by)
        _, end, padding = self.specials
        rows = []
        for row in tokens.tolist():
            told, rest = list[int](), row[: row.index(end) + 1]
            while (place := _place(rest, wanted)) is not None:
                told += [*rest[:place], *other]
                rest = rest[place + len(wanted) :]
            told += rest
            if len(told) > self.length:
                raise ExpungeError(
                    f"With {by!r} in the place of {words!r} a prompt has {len(told)} tokens; at "
                    f"most {self.length} are expected. Take a shorter anchor."
                )
            rows.append(told + [padding] * (self.length - len(told)))
        return torch.tensor(rows, dtype=torch.int64, device=tokens.device).view_as(tokens)

    def ends(self, tokens: Tensor, words: str) -> Tensor:
        """Position (n,) of the last token of ``words`` in each row (n, L), where it first holds
        them.

        Raises:
            ExpungeError: a row does not hold them.
        """
        wanted = self._wanted(words)
        places = [_place(row, wanted) for row in tokens.tolist()]
        if None in places:
            raise ExpungeError(f"A prompt that does not speak of {words!r} was given as one.")
        return torch.tensor([place + len(wanted) - 1 for place in places if place is not None])

    def last(self, tokens: Tensor) -> Tensor:
        """Position (n,) of the last word of each row (n, L); 0 where there is none."""
        _, end, _ = self.specials
        return torch.tensor([row.index(end) - 1 for row in tokens.tolist()])

    def _wanted(self, words: str) -> list[int]:
        wanted = self.inner(words)
        if not wanted:
            raise ExpungeError(
                "No word was given to look for in prompts; name what is to be forgotten."
            )
        return wanted


@dataclass(frozen=True)
class FolderTokens(PromptTokens):
    """The tokenizer of a checkpoint, as ``transformers`` opens it.

    Args:
        folder: that holds its files.
    """

    folder: Path = Path()

    @property
    def specials(self) -> tuple[int, int, int]:
        """Those of the tokenizer."""
        its = self._tokenizer()
        return its.bos_token_id, its.eos_token_id, its.pad_token_id

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return len(self._tokenizer())

    def inner(self, text: str) -> list[int]:
        """The tokens of some words alone."""
        found: list[int] = self._tokenizer()(text, add_special_tokens=False).input_ids
        return found

    def _tokenizer(self) -> Any:
        return _opened(self.folder)


@functools.cache  # opening one takes longer than a batch
def _opened(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _place(row: Sequence[int], wanted: Sequence[int]) -> int | None:
    """Where ``wanted`` begins in a row, or None."""
    for start in range(len(row) - len(wanted) + 1):
        if list(row[start : start + len(wanted)]) == list(wanted):
            return start
    return None
