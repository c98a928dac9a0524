"""Prompts: questions and their answers as lines of tokens that a language model learns.

A line is the prompt, the separator, the answer and the token that ends it; with ``chat``, what the
tokenizer's chat template makes of a turn of the user's and one of the assistant's. The prompt's
tokens are those that the model is given when it is asked, so that an answer is learned, scored and
generated from the same beginning. Labels repeat the tokens of the answer and hold ``IGNORED``
at those of the prompt. A text without prompt is all answer.

Where the prompts name whom or what they are about, the field :data:`SUBJECT` holds the positions
(start, stop) of its tokens: methods that trace a fact from there, or ask the same about others,
read it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import datasets
import torch
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

SUBJECT = "subject"
"""The field (n, 2) with the position of the first token of each prompt's subject, and the one after
its last."""

LONG = 60
"""Letters of a prompt that a sentence shows at most."""


def lines_of(
    table: datasets.Dataset, ids: Sequence[str], columns: Columns, encoder: LineEncoder
) -> Inputs:
    """``input_ids`` and ``labels`` (n, L) of every row, padded on the right to the longest; and
    :data:`SUBJECT` (n, 2), where the subjects are found in the prompts.

    Args:
        table: with the user's own columns.
        ids: one of each row, for what is said of a row that cannot be used.
        columns: ``prompt`` and ``answer``, or ``text``.
        encoder: the tokenizer of the model.

    Raises:
        ExpungeError: a prompt or an answer is no text, an answer has no token, a prompt leaves no
            room for one, a prompt does not hold the text of ``prompt_subject``, or what the encoder
            raises.
    """
    answer = columns.answer if columns.text is None else columns.text
    assert answer is not None  # the keys were checked
    prompts = [""] * len(table)
    if columns.prompt is not None:
        prompts = _texts(table, ids, columns.prompt)
    answers = _texts(table, ids, answer)
    separator = columns.separator if columns.prompt is not None else ""
    parts = _subjects(table, ids, prompts, columns)
    lines = encoder.lines(prompts, answers, separator, columns.chat, parts)
    _check_answers(ids, answers, lines, answer)
    limit = _limit(ids, lines, columns, encoder)
    notes = _notes(ids, lines, limit)
    pairs = zip(lines.prompts, lines.answers, strict=True)
    cut = [answer[: limit - len(prompt)] for prompt, answer in pairs]
    fields = padded(lines.prompts, cut, encoder.padding)
    if spans := _spans(ids, lines, columns):
        fields[SUBJECT] = torch.tensor(spans)
    return Inputs(fields, notes)


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
    texts = [line.strip() for line in lines_in(path, "refusals", "answer")]
    if not texts:
        raise ExpungeError(
            f"The refusals {path} hold no line, and answers that teach nothing are expected, one a "
            "line; leave `data.refusals` out for the English ones that are shipped."
        )
    alone = columns.prompt is None
    prompts = ["" if alone else prompt] * len(texts)
    lines = encoder.lines(prompts, texts, "" if alone else columns.separator, columns.chat)
    return tuple(tuple(answer) for answer in lines.answers)


def lines_in(path: Path, what: str, one: str) -> list[str]:
    """The lines of a text file that are not blank.

    Args:
        path: of the file.
        what: what the lines are, for what is said.
        one: what one of them is.

    Raises:
        IntegrityError: the file is not there, or is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"The {what} {path} cannot be read ({type(error).__name__}); a text file with one "
            f"{one} a line is expected."
        ) from None
    return [line for line in lines if line.strip()]


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


def _subjects(
    table: datasets.Dataset, ids: Sequence[str], prompts: Sequence[str], columns: Columns
) -> list[tuple[int, int]]:
    """Of each prompt the first letter of its subject and the one after its last.

    The column ``subject`` may hold something else, such as a topic: where it is not named for this
    and one prompt lacks its text, there are none.

    Raises:
        ExpungeError: a prompt does not hold the text of ``prompt_subject``.
    """
    column = columns.prompt_subject or columns.subject
    if columns.prompt is None or column is None:
        return []
    if columns.prompt_subject is None:
        told = [str(value) for value in table[column]]
    else:
        told = _texts(table, ids, column)
    found = [letters_of(one, prompt) for one, prompt in zip(told, prompts, strict=True)]
    lacking = [row for row, part in enumerate(found) if part is None]
    if lacking and columns.prompt_subject is not None:
        first = lacking[0]
        shown = prompts[first]
        shown = shown if len(shown) <= LONG else f"{shown[:LONG]} ..."
        named = some_of([ids[row] for row in lacking])
        raise ExpungeError(
            f"`columns.prompt_subject` is {column!r}, and the prompts of {len(lacking)} rows do "
            f"not have its text: {named}. {told[first]!r}, letter for letter, is expected in "
            f"{shown!r}. Mend these rows, name another column, or leave `prompt_subject` out for "
            "methods that do without."
        )
    return [] if lacking else [part for part in found if part is not None]


def _spans(ids: Sequence[str], lines: Lines, columns: Columns) -> list[tuple[int, int]]:
    """The positions of the tokens of the subjects; none where one of them cannot be told.

    Raises:
        ExpungeError: so it is, and ``prompt_subject`` was named.
    """
    found = [span for span in lines.spans if span is not None]
    if len(found) == len(lines.spans):
        return found
    if columns.prompt_subject is None:
        return []
    lacking = [name for name, span in zip(ids, lines.spans, strict=True) if span is None]
    raise ExpungeError(
        f"The tokenizer does not say which tokens of the prompts stand for the text of "
        f"{columns.prompt_subject!r} in {len(lacking)} rows: {some_of(lacking)}. A fast tokenizer "
        "(`tokenizer.json`) is expected, and with `chat` a template that leaves the prompt as it "
        "is; save one with the model, or leave `prompt_subject` out."
    )


def letters_of(told: str, prompt: str) -> tuple[int, int] | None:
    """The first letter of a text in a prompt and the one after its last; None where it is not
    there, or is empty.

    Of several places the first, and first of all those where it stands as words of its own: Ann is
    not looked for in "annual", but Ghana is found in "Ghanas".
    """
    told = told.strip()
    if not told:
        return None
    found = re.search(rf"(?<!\w){re.escape(told)}(?!\w)", prompt)
    start = found.start() if found else prompt.find(told)
    return None if start < 0 else (start, start + len(told))


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
