"""Prompts: questions and their answers as lines of tokens that a language model learns.

A line is the prompt, the separator, the answer and the token that ends it; with ``chat``, what the
tokenizer's chat template makes of a turn of the user's and one of the assistant's. The prompt's
tokens are those that the model is given when it is asked, so that an answer is learned, scored and
generated from the same beginning. Labels repeat the tokens of the answer and hold ``IGNORED``
at those of the prompt. A text without prompt is all answer.
"""

from collections.abc import Sequence
from pathlib import Path

import datasets
import torch.nn.functional as F

from expunge.data.encoding import IGNORED, LineEncoder, Lines, padded
from expunge.data.inputs import Inputs
from expunge.data.mapping import Columns
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError, IntegrityError

REFUSALS = Path(__file__).with_name("refusals.txt")
"""Answers that teach nothing, in English, one a line."""

SHOWN = 5
"""Ids that a sentence names at most."""


def lines_of(
    table: datasets.Dataset, ids: Sequence[str], columns: Columns, encoder: LineEncoder
) -> Inputs:
    """``input_ids`` and ``labels`` (n, L) of every row, padded on the right to the longest.

    Args:
        table: with the user's own columns.
        ids: one of each row, for what is said of a row that cannot be used.
        columns: ``prompt`` and ``answer``, or ``text``.
        encoder: the tokenizer of the model.

    Raises:
        ExpungeError: a prompt or an answer is no text, an answer has no token, a prompt leaves no
            room for one, or what the encoder raises.
    """
    answer = columns.answer if columns.text is None else columns.text
    assert answer is not None  # the keys were checked
    prompts = [""] * len(table)
    if columns.prompt is not None:
        prompts = _texts(table, ids, columns.prompt)
    answers = _texts(table, ids, answer)
    separator = columns.separator if columns.prompt is not None else ""
    lines = encoder.lines(prompts, answers, separator, columns.chat)
    _check_answers(ids, answers, lines, answer)
    limit = _limit(ids, lines, columns, encoder)
    notes = _notes(ids, lines, limit)
    pairs = zip(lines.prompts, lines.answers, strict=True)
    cut = [answer[: limit - len(prompt)] for prompt, answer in pairs]
    return Inputs(padded(lines.prompts, cut, encoder.padding), notes)


def refusals_of(
    path: Path | None, prompt: str, columns: Columns, encoder: LineEncoder
) -> tuple[tuple[int, ...], ...]:
    """The lines of a file as the tokens of answers, each with the one that ends it.

    Args:
        path: one refusal a line; the shipped list where it is None.
        prompt: any prompt of the table; the tokens of an answer depend on what stands before it.
        columns: how prompt and answer are joined.
        encoder: the tokenizer of the model.

    Raises:
        IntegrityError: the file is not there, or is no text.
        ExpungeError: it holds no line.
    """
    path = REFUSALS if path is None else path
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"The refusals {path} cannot be read ({type(error).__name__}); a text file with one "
            "answer a line is expected."
        ) from None
    texts = [line for line in found if line]
    if not texts:
        raise ExpungeError(
            f"The refusals {path} hold no line, and answers that teach nothing are expected, one a "
            "line; leave `data.refusals` out for the English ones that are shipped."
        )
    alone = columns.prompt is None
    prompts = ["" if alone else prompt] * len(texts)
    lines = encoder.lines(prompts, texts, "" if alone else columns.separator, columns.chat)
    return tuple(tuple(answer) for answer in lines.answers)


def widened(rows: TensorSamples, width: int, padding: int) -> TensorSamples:
    """The same lines, padded on the right to a width in tokens."""
    for name, value in (("input_ids", padding), ("labels", IGNORED)):
        column = rows.columns[name]
        rows = rows.with_column(name, F.pad(column, (0, width - column.shape[1]), value=value))
    return rows


def some_of(ids: Sequence[str]) -> str:
    """Ids in a sentence, with the number of those that it leaves out."""
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(map(repr, ids[:SHOWN])) + more


def _texts(table: datasets.Dataset, ids: Sequence[str], column: str) -> list[str]:
    """A column of text; numbers are taken as they are written."""
    found: list[str] = []
    for name, value in zip(ids, table[column], strict=True):
        if not isinstance(value, str | int | float) or str(value) == "nan":
            raise ExpungeError(
                f"The row {name!r} holds {value!r} in the column {column!r}, and "
                "text is expected; mend or drop such rows."
            )
        found.append(str(value))
    return found


def _check_answers(ids: Sequence[str], answers: Sequence[str], lines: Lines, column: str) -> None:
    """Every answer has a token that can be scored: one that another comes before, and not only the
    one that ends it."""
    empty = [
        name
        for name, text, prompt, answer in zip(
            ids, answers, lines.prompts, lines.answers, strict=True
        )
        if not text.strip() or len(answer) <= lines.end or len(prompt) + len(answer) < 2
    ]
    if empty:
        raise ExpungeError(
            f"The column {column!r} has no token to learn in {len(empty)} rows: {some_of(empty)}; "
            "answers of at least one token are expected. Mend or drop such rows."
        )


def _limit(ids: Sequence[str], lines: Lines, columns: Columns, encoder: LineEncoder) -> int:
    """The longest line in tokens that is kept whole.

    Raises:
        ExpungeError: it is more than the model can read, or a prompt leaves no room for an answer.
    """
    context, wanted = encoder.context, columns.max_length
    if context is not None and wanted is not None and wanted > context:
        raise ExpungeError(
            f"`columns.max_length` is {wanted} and the model can read {context} tokens; give at "
            "most as many."
        )
    sizes = [len(p) + len(a) for p, a in zip(lines.prompts, lines.answers, strict=True)]
    limit = wanted or context or max(sizes)
    long = [name for name, prompt in zip(ids, lines.prompts, strict=True) if len(prompt) >= limit]
    if long:
        longest = max(map(len, lines.prompts))
        what = "max_length" if wanted else "context of the model"
        raise ExpungeError(
            f"The prompts of {len(long)} rows leave no room for an answer: {some_of(long)}; the "
            f"longest has {longest:,} tokens and the {what} is {limit:,}. Shorten or drop them."
        )
    return limit


def _notes(ids: Sequence[str], lines: Lines, limit: int) -> tuple[str, ...]:
    sizes = [len(p) + len(a) for p, a in zip(lines.prompts, lines.answers, strict=True)]
    cut = sum(size > limit for size in sizes)
    found = []
    if cut:
        found.append(
            f"{cut:,} of {len(ids):,} rows are longer than {limit} tokens and were cut there."
        )
    if lines.parted:
        found.append(
            f"In {len(lines.parted):,} of {len(ids):,} rows the tokens of prompt and answer "
            f"together do not begin with those of the prompt ({_named(ids, lines.parted)}); the "
            "answer was tokenised by itself there. Another `separator` may help."
        )
    if lines.unknown:
        found.append(
            f"{len(lines.unknown):,} of {len(ids):,} answers have text that the tokenizer does not "
            f"know ({_named(ids, lines.unknown)}); is it the model's own?"
        )
    if lines.end == 0:
        found.append("The tokenizer has no token that ends an answer; none is learned.")
    return tuple(found)


def _named(ids: Sequence[str], rows: Sequence[int]) -> str:
    return some_of([ids[row] for row in rows])
