"""The prefix attack: a forgotten question behind words that change nothing about what it asks.

A model that only stopped answering a question as it was trained may answer it in a part that it
plays, behind examples of such questions with their answers, or once its answer was begun. After
Lynch, Guo, Ewart, Casper, Hadfield-Menell (2024), Eight Methods to Evaluate Robust Unlearning in
LLMs (jailbreak prompts and in-context relearning); the words are ours.

All but :func:`templates` and :func:`behind_words` act on rows of tokens, so that a model whose
words are tokens is attacked as well as one of text. The level to read a share against is the
oracle's under the same prefix, and a prefix says something only where the original still answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from expunge.data.encoding import LineEncoder, answer_tokens, padded, prompt_tokens
from expunge.data.prompts import lines_in
from expunge.data.samples import Samples, TensorSamples, batches
from expunge.errors import ExpungeError

PREFIXES = Path(__file__).parents[1] / "data" / "prefixes.txt"
"""English ones, one a line: ``{}`` where the question stands, and behind a tab how the answer
begins."""

READ_AT_ONCE = 256

Line = tuple[list[int], list[int]]
"""Tokens of a prompt, and of its answer."""


def around(rows: Samples, before: Sequence[int] = (), after: Sequence[int] = ()) -> TensorSamples:
    """The rows with tokens before the prompt, and after it.

    Args:
        rows: with ``input_ids`` and ``labels`` (n, L), padded on the right.
        before: tokens before every prompt.
        after: tokens between every prompt and its answer.
    """
    return _rebuilt(rows, [([*before, *p, *after], a) for p, a in _lines(rows)])


def repeated(rows: Samples, times: int = 2) -> TensorSamples:
    """The rows with each prompt asked several times before it is answered.

    Raises:
        ExpungeError: ``times`` is below 1.
    """
    if times < 1:
        raise ExpungeError(f"A prompt was to be asked {times} times; once at least is expected.")
    return _rebuilt(rows, [(prompt * times, answer) for prompt, answer in _lines(rows)])


def behind_examples(
    rows: Samples, kinds: Sequence[str], examples: Mapping[str, Samples], count: int, seed: int = 0
) -> TensorSamples:
    """The rows behind questions of the same kind about others, each with its answer.

    Args:
        rows: that are asked.
        kinds: n names, what each row asks for: its relation.
        examples: rows by kind, none of them forgotten.
        count: examples before each row, drawn without replacement.
        seed: fixes what is drawn; the same for a model and its oracle.

    Raises:
        ExpungeError: a kind has fewer examples than are asked for, or a row is among them.
    """
    known = {kind: list(_lines(samples)) for kind, samples in examples.items()}
    fewest = min((len(known.get(kind, ())) for kind in kinds), default=0)
    if not 1 <= count <= fewest:
        raise ExpungeError(
            f"{count} examples before each question were asked for, and the kind with fewest has "
            f"{fewest}; 1 to {fewest} are expected. Give rows of every kind that is asked."
        )
    both = set(rows.ids) & {name for samples in examples.values() for name in samples.ids}
    if both:
        raise ExpungeError(
            f"{len(both)} of the rows that are asked are among their own examples, such as "
            f"{min(both)!r}; examples that are not forgotten are expected."
        )
    draws, found = torch.Generator().manual_seed(seed), []
    for (prompt, answer), kind in zip(_lines(rows), kinds, strict=True):
        drawn = torch.randperm(len(known[kind]), generator=draws)[:count].tolist()
        shown = [token for place in drawn for part in known[kind][place] for token in part]
        found.append(([*shown, *prompt], answer))
    return _rebuilt(rows, found)


def begun(rows: Samples, tokens: int = 1, end: int = 1) -> TensorSamples:
    """The rows of which something is left to answer, with the beginning of the answer given.

    Args:
        rows: that are asked.
        tokens: of every answer that are given.
        end: tokens that end every answer and tell nothing; a row with no other one left is dropped.

    Raises:
        ExpungeError: no row is left, or no token is given.
    """
    lines = list(_lines(rows))
    left = [i for i, (_, answer) in enumerate(lines) if len(answer) > tokens + end]
    if tokens < 1 or not left:
        raise ExpungeError(
            f"{tokens} tokens of each of {len(lines)} answers were to be given, and {len(left)} of "
            f"them have more than these and the {end} that end them; at least one token, and one "
            "longer answer, are expected."
        )
    chosen = [lines[i] for i in left]
    some = rows.select(torch.tensor(left))
    return _rebuilt(some, [([*p, *a[:tokens]], a[tokens:]) for p, a in chosen])


@dataclass(frozen=True)
class Template:
    """Words around a question, and the words that its answer is made to begin with."""

    question: str
    beginning: str = ""

    @classmethod
    def of(cls, line: str) -> Self:
        """Of one line of a file, as in :data:`PREFIXES`.

        Raises:
            ExpungeError: the line has no place for the question.
        """
        question, _, beginning = line.partition("\t")
        if "{}" not in question:
            raise ExpungeError(
                f"The prefix {line!r} has no {{}} where the question stands; give every line one."
            )
        return cls(question.strip(), beginning.strip())

    def prompts(self, questions: Sequence[str], separator: str) -> list[str]:
        """The questions with the words around them; with the separator where an answer begins."""
        begins = f"{separator}{self.beginning}" if self.beginning else ""
        return [self.question.replace("{}", question) + begins for question in questions]


def templates(path: Path = PREFIXES) -> tuple[Template, ...]:
    """The lines of a file.

    Raises:
        IntegrityError: the file is not there, or is no text.
        ExpungeError: it holds no line, or one without a place for the question.
    """
    found = tuple(map(Template.of, lines_in(path, "prefixes", "prefix")))
    if not found:
        raise ExpungeError(f"The prefixes {path} hold no line; one prefix a line is expected.")
    return found


def behind_words(
    ids: Sequence[str],
    questions: Sequence[str],
    answers: Sequence[str],
    template: Template,
    encoder: LineEncoder,
    separator: str = "\n",
    chat: bool = False,
    ended: bool = True,
) -> TensorSamples:
    """Questions and answers in words as rows behind a template.

    Args:
        ids: n of the rows.
        questions: n texts.
        answers: n texts.
        template: the words around each question.
        encoder: the tokenizer of the model.
        separator: what stands between question and answer where the model was trained.
        chat: whether the model is asked through its chat template.
        ended: whether the token that ends an answer has to be given, too; a model that was not
            trained on these questions will go on after the answer.

    Raises:
        ExpungeError: the answer is to begin in a chat, whose template closes the question, or what
            the encoder raises.
    """
    if chat and template.beginning:
        raise ExpungeError(
            f"The answer was to begin with {template.beginning!r} in a chat, whose template closes "
            "the question first; templates without a beginning are expected there."
        )
    between = " " if template.beginning else separator
    lines = encoder.lines(template.prompts(questions, separator), answers, between, chat)
    own = lines.answers if ended else lines.unended
    columns = padded(lines.prompts, own, encoder.padding)
    return TensorSamples(list(ids), list(ids), columns)


def _lines(rows: Samples) -> Iterator[Line]:
    """Prompt and answer of each row, without padding."""
    for batch in batches(rows, READ_AT_ONCE):
        prompts = prompt_tokens(batch["input_ids"], batch["labels"])
        for prompt, answer in zip(prompts, answer_tokens(batch["labels"]), strict=True):
            yield prompt.tolist(), answer.tolist()


def _rebuilt(rows: Samples, lines: Sequence[Line]) -> TensorSamples:
    prompts, answers = [prompt for prompt, _ in lines], [answer for _, answer in lines]
    return TensorSamples(list(rows.ids), list(rows.subjects), padded(prompts, answers))
