"""Guessing: which part each column of a table that nobody has described probably plays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, Literal

import datasets

IDS = ("id", "uuid", "key", "record", "row_id")
SUBJECTS = (
    "subject", "person", "user", "user_id", "customer", "customer_id", "patient", "patient_id",
    "sender", "author", "owner", "writer", "name", "account",
)  # fmt: skip
LABELS = ("label", "class", "category", "y", "target", "diagnosis", "species")
TARGETS = ("target", "price", "value", "y", "score")
PROMPTS = ("prompt", "question", "instruction", "query")
ANSWERS = ("answer", "response", "completion", "output")
TEXTS = ("text", "content", "document", "story")
SPLIT = "split"
ROW_NUMBERS = ("rownames", "row", "index", "unnamed: 0")
"""Names that tables get when their row numbers are written too: no input."""

LOOKED_AT = 500
"""Rows that are looked at."""

FEW = 30
"""A column with more different values than this holds no classes."""

WORDS = 4
"""A column of text has at least as many words a row on average; shorter ones are names."""

Answer = Literal["label", "target", "answer"]
Kind = Literal["pictures", "text", "arrays", "numbers", "names", "other", "prompts"]


@dataclass(frozen=True)
class Guess:
    """The parts, each None where no column fits; ``kind`` is that of the input.

    ``prompt`` and the ``input`` are the two halves of what a language model learns: the question
    and its answer; a text has no prompt. ``classes`` are the texts of the labels in alphabetical
    order, where labels are texts; ``sizes`` the different sizes [height, width] of the pictures.
    """

    id: str | None
    subject: str | None
    answer: Answer
    label: str | None
    input: str | tuple[str, ...] | None
    kind: Kind | None
    classes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = field(default=())
    prompt: str | None = None


def guessed(table: datasets.Dataset, answer: Answer | None = None) -> Guess:
    """The guess from the names, types and first rows of a table.

    Args:
        table: at least one row.
        answer: whether a class or a number is learned, where the model tells.
    """
    few = table.select(range(min(len(table), LOOKED_AT)))
    rows: Mapping[str, Sequence[Any]] = {name: list(few[name]) for name in few.column_names}
    kinds = {name: _kind(few.features[name], values) for name, values in rows.items()}
    label, answer = _answer(few, rows, kinds, answer)
    rest = [name for name in kinds if name not in (label, SPLIT)]
    id_ = _named(rest, IDS, lambda name: len(set(rows[name])) == len(few), kinds)
    rest = [name for name in rest if name != id_]
    subject = _named(rest, SUBJECTS, lambda name: len(set(rows[name])) < len(few), kinds)
    rest = [name for name in rest if name != subject]
    given, kind = _input(rest, kinds)
    texts = label is not None and answer == "label" and isinstance(rows[label][0], str)
    return Guess(
        id_,
        subject,
        answer,
        label,
        given,
        kind,
        tuple(sorted({str(value) for value in table[label]})) if texts else (),
        _splits(table),
        tuple(sorted({p.size[::-1] for p in rows[str(given)]})) if kind == "pictures" else (),
    )


def guessed_lines(table: datasets.Dataset) -> Guess | None:
    """The guess for a language model: a prompt and its answer, or a text; None where the table has
    neither. Names decide, since any two columns of text could be both.

    Args:
        table: at least one row.
    """
    few = table.select(range(min(len(table), LOOKED_AT)))
    rows: Mapping[str, Sequence[Any]] = {name: list(few[name]) for name in few.column_names}
    kinds = {name: _kind(few.features[name], values) for name, values in rows.items()}

    def of(words: Sequence[str]) -> str | None:
        return _named([n for n in kinds if kinds[n] != "numbers"], words, lambda _: True, kinds)

    prompt, answer = of(PROMPTS), of(ANSWERS)
    if prompt is None or answer is None:
        prompt, answer = None, of(TEXTS)
    if answer is None:
        return None
    rest = [name for name in kinds if name not in (prompt, answer, SPLIT)]
    id_ = _named(rest, IDS, lambda name: len(set(rows[name])) == len(few), kinds)
    rest = [name for name in rest if name != id_]
    subject = _named(rest, SUBJECTS, lambda name: len(set(rows[name])) < len(few), kinds)
    return Guess(
        id_,
        subject,
        "answer",
        None,
        answer,
        "prompts" if prompt is not None else "text",
        splits=_splits(table),
        prompt=prompt,
    )


def _splits(table: datasets.Dataset) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, table[SPLIT]))) if SPLIT in table.column_names else ()


def _kind(feature: Any, values: Sequence[Any]) -> Kind:
    first = next((value for value in values if value is not None), None)
    if isinstance(feature, datasets.Image):
        return "pictures"
    if isinstance(first, str):
        long = mean(len(str(value).split()) for value in values if value is not None) >= WORDS
        return "text" if long else "names"
    if isinstance(first, bool | int | float):
        return "numbers"
    return "arrays" if isinstance(first, list) else "other"


def _answer(
    table: datasets.Dataset,
    rows: Mapping[str, Sequence[Any]],
    kinds: Mapping[str, Kind],
    wanted: Answer | None,
) -> tuple[str | None, Answer]:
    """The column of the classes or of the numbers to predict: by type, then name, then place."""
    plain = [name for name in kinds if name.lower() not in (*IDS, *ROW_NUMBERS)]
    classes = [name for name in plain if _holds_classes(rows[name], kinds[name])]
    numbers = [n for n in plain if kinds[n] == "numbers" and n not in classes]
    if wanted != "target":
        declared = [n for n, f in table.features.items() if isinstance(f, datasets.ClassLabel)]
        found = [*declared, *(n for n in classes if n.lower() in LABELS)]
        if found:
            return found[0], "label"
    if wanted != "label":
        found = [n for n in numbers if set(TARGETS) & set(n.lower().replace("-", "_").split("_"))]
        if found or (wanted == "target" and numbers):
            return (found or numbers)[-1], "target"
    others = [n for n in classes if n != SPLIT]
    if others and (wanted == "label" or not numbers or others[-1] == list(kinds)[-1]):
        return others[-1], "label"
    if numbers and wanted != "label":
        return numbers[-1], "target"
    return None, wanted or "label"


def _holds_classes(values: Sequence[Any], kind: Kind) -> bool:
    """Whether there are few different values, whole numbers or names, most of them repeated."""
    if kind not in ("numbers", "names") or not all(isinstance(v, int | str) for v in values):
        return False
    return 1 < len(set(values)) <= min(FEW, max(2, len(values) // 2))


def _named(names: Sequence[str], words: Sequence[str], fits: Any, kinds: Any) -> str | None:
    plain = [n for n in names if kinds[n] in ("names", "numbers", "text")]
    known = [n for word in words for n in plain if n.lower() == word]
    return next((name for name in known if fits(name)), None)


def _input(
    names: Sequence[str], kinds: Mapping[str, Kind]
) -> tuple[str | tuple[str, ...] | None, Kind | None]:
    """One column of pictures, text or arrays, else every column of numbers."""
    for kind in ("pictures", "text", "arrays"):
        found = [name for name in names if kinds[name] == kind]
        if found:
            return found[0], kind
    numbers = tuple(n for n in names if kinds[n] == "numbers" and n.lower() not in ROW_NUMBERS)
    return (numbers, "numbers") if numbers else (None, None)
