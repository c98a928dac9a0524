"""Prompts and answers through a tokenizer of ``transformers``, and where the prompt ends.

The whole line is tokenised, and its beginning has to be the tokens that the model is given when it
is asked: those of the prompt and the separator, without spaces at the end, which tokenizers take to
the word that follows. Where it is not, since the tokenizer joins letters across the border, prompt
and answer are tokenised one by one.

The tokens of a part of a prompt, such as the name that it asks about, are those that hold a letter
of it, by the offsets that the tokenizer gives: a space or a bracket may be in the same token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.data.encoding import Lines, Parts
from expunge.errors import ExpungeError, first_line


@dataclass(frozen=True, eq=False)
class LineTokens:
    """The tokens of lines.

    Args:
        tokenizer: of ``transformers``.
        folder: where it lies, for what is said.
    """

    tokenizer: Any
    folder: Path

    def separated(
        self, prompts: Sequence[str], answers: Sequence[str], separator: str, parts: Parts = ()
    ) -> Lines:
        """Prompt, separator, answer, and the tokens that begin and end a line of this tokenizer."""
        begins = [prompt + separator.rstrip(" ") for prompt in prompts]
        wholes = [prompt + separator + a for prompt, a in zip(prompts, answers, strict=True)]
        end = self.tokenizer.eos_token_id
        last = [] if end is None else [end]
        return self._lines(begins, wholes, self._first(), last, parts)

    def chatted(self, prompts: Sequence[str], answers: Sequence[str], parts: Parts = ()) -> Lines:
        """What the chat template makes of a turn of the user's and one of the assistant's.

        Raises:
            ExpungeError: there is no template, it fails, or it does not begin with the prompt.
        """
        if not self.tokenizer.chat_template:
            raise ExpungeError(
                f"`chat: true` was given and the tokenizer in {self.folder} has no chat template; "
                "leave it out, or save the template with the tokenizer."
            )
        turns = [self._exchange(p, a) for p, a in zip(prompts, answers, strict=True)]
        begins = [begin for begin, _ in turns]
        wanted = [_shifted(*row) for row in zip(begins, prompts, parts, strict=bool(parts))]
        return self._lines(begins, [whole for _, whole in turns], [], [], wanted)

    def _exchange(self, prompt: str, answer: str) -> tuple[str, str]:
        """An exchange up to the answer, and up to the token that ends the answer."""
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        rendered = self.tokenizer.apply_chat_template
        try:
            begin: str = rendered(turns[:1], tokenize=False, add_generation_prompt=True)
            whole: str = rendered(turns, tokenize=False)
        except Exception as error:  # a template is somebody's code, and may fail in any way
            raise ExpungeError(
                f"The chat template in {self.folder} failed ({first_line(error)}); leave `chat` "
                "out, or mend the template."
            ) from None
        if not whole.startswith(begin):
            raise ExpungeError(
                f"The chat template in {self.folder} begins an exchange otherwise when its answer "
                "is there than when it is asked for; leave `chat` out, or mend the template."
            )
        return begin, whole.rstrip()

    def _lines(
        self,
        begins: Sequence[str],
        wholes: Sequence[str],
        first: list[int],
        last: list[int],
        parts: Parts = (),
    ) -> Lines:
        prompts, answers = list[list[int]](), list[list[int]]()
        parted, unknown = list[int](), list[int]()
        read = zip(self._plain(begins), self._plain(wholes), strict=True)
        for row, (start, whole) in enumerate(read):
            answer = whole[len(start) :]
            if whole[: len(start)] != start:
                parted.append(row)
                answer = self._plain([wholes[row].removeprefix(begins[row])])[0]
            if self.tokenizer.unk_token_id in answer:
                unknown.append(row)
            prompts.append(first + start)
            answers.append(answer + last)
        ends = int(self.tokenizer.eos_token_id is not None)
        spans = self._spans(begins, parts, len(first)) if parts else []
        return Lines(prompts, answers, ends, parted, unknown, spans)

    def _spans(
        self, begins: Sequence[str], parts: Parts, first: int
    ) -> list[tuple[int, int] | None]:
        """Positions of the tokens that hold a letter of a part of each beginning; None where there
        is none, or the tokenizer does not say which letters its tokens stand for."""
        if not self.tokenizer.is_fast:
            return [None] * len(parts)
        read = self.tokenizer(list(begins), add_special_tokens=False, return_offsets_mapping=True)
        offsets: list[list[tuple[int, int]]] = read["offset_mapping"]
        found: list[tuple[int, int] | None] = []
        for row, (start, stop) in zip(offsets, parts, strict=True):
            held = [i for i, (a, b) in enumerate(row) if max(a, start) < min(b, stop)]
            found.append((first + held[0], first + held[-1] + 1) if held else None)
        return found

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts, without those that begin or end a line."""
        found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return found

    def _first(self) -> list[int]:
        """The token that begins every line, where the tokenizer puts one there."""
        tokens: list[int] = self.tokenizer("")["input_ids"]
        begin = self.tokenizer.bos_token_id
        return [begin] if begin is not None and tokens[:1] == [begin] else []


def _shifted(begin: str, prompt: str, part: tuple[int, int]) -> tuple[int, int]:
    """Where a part of a prompt is in the exchange that it is in; nowhere, and so without a letter,
    where the template changed the prompt."""
    before = begin.rfind(prompt.strip())
    if before < 0:
        return 0, 0
    shift = before - (len(prompt) - len(prompt.lstrip()))
    return part[0] + shift, part[1] + shift
