"""Tokens: what turns questions and answers into lines of tokens, and tokens back into words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

from expunge.data.encoding import Lines
from expunge.errors import ExpungeError
from expunge.models.lines import LineTokens

PAD, END = 0, 1
SPECIAL = ("<pad>", "<end>")


class Tokens(Protocol):
    """Lines as a model was taught them."""

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens each of which ends an answer."""
        ...

    def lines(self, prompts: Sequence[str], answers: Sequence[str]) -> Lines:
        """Prompts and answers as tokens, row by row."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The words of tokens, without those that only steer."""
        ...


@dataclass(frozen=True)
class Words:
    """One token a word, as texts are divided at spaces.

    Args:
        known: all words, sorted; their tokens follow :data:`SPECIAL`.
    """

    known: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """The words of some texts."""
        return cls(tuple(sorted({word for text in texts for word in text.split()})))

    def __len__(self) -> int:
        return len(SPECIAL) + len(self.known)

    @property
    def ends(self) -> tuple[int, ...]:
        """The one that ends an answer."""
        return (END,)

    def lines(self, prompts: Sequence[str], answers: Sequence[str]) -> Lines:
        """A token a word; an answer has the end after it.

        Raises:
            ExpungeError: a word is not known.
        """
        ending = [[*self._tokens(text), END] for text in answers]
        return Lines([self._tokens(text) for text in prompts], ending, 1)

    def text(self, tokens: Sequence[int]) -> str:
        """The words, with spaces between."""
        shown = [token - len(SPECIAL) for token in tokens if token >= len(SPECIAL)]
        return " ".join(self.known[place] for place in shown)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.known, len(SPECIAL))}

    def _tokens(self, text: str) -> list[int]:
        try:
            return [self._places[word] for word in text.split()]
        except KeyError as error:
            raise ExpungeError(
                f"The word {error.args[0]!r} is not among the {len(self.known)} known ones; build "
                "the words from all texts that are asked."
            ) from None


@dataclass(frozen=True, eq=False)
class OfFolder:
    """The tokenizer of a model's folder.

    Args:
        tokenizer: of ``transformers``.
        folder: where it lies, for what is said.
        separator: stands between prompt and answer.
        chat: prompts and answers as turns of the tokenizer's chat template instead.
    """

    tokenizer: Any
    folder: Path
    separator: str = "\n"
    chat: bool = False

    @classmethod
    def open(cls, folder: Path, separator: str = "\n", chat: bool = False) -> Self:
        """The tokenizer in a folder; code that it brings is not run.

        Raises:
            ExpungeError: there is none, or it cannot be read.
        """
        import transformers

        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise ExpungeError(
                f"The folder {folder} has no tokenizer that can be read "
                f"({str(error).splitlines()[0]}); save it there with `tokenizer.save_pretrained`."
            ) from None
        return cls(tokenizer, folder, separator, chat)

    @property
    def ends(self) -> tuple[int, ...]:
        """The token that ends a text; none where the tokenizer has none."""
        end = self.tokenizer.eos_token_id
        return () if end is None else (int(end),)

    def lines(self, prompts: Sequence[str], answers: Sequence[str]) -> Lines:
        """As :mod:`expunge.models.lines` divides them."""
        made = LineTokens(self.tokenizer, self.folder)
        if self.chat:
            return made.chatted(prompts, answers)
        return made.separated(prompts, answers, self.separator)

    def text(self, tokens: Sequence[int]) -> str:
        """The words, as the tokenizer joins them."""
        found: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return found.strip()
