"""Previewing: what a scope would remove, counted before anybody asks for it; nothing is written.

It is looked for as it will be when the request is answered (:mod:`~expunge.ledger.naming`), so that
both find the same as long as no other request comes between.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from expunge.audit.planning import Group, grouping, groups_of
from expunge.ledger.labels import label_texts
from expunge.ledger.naming import (
    EARLIER,
    EVERYTHING,
    NOWHERE,
    Copies,
    Meant,
    copies_of,
    meant,
    places,
)
from expunge.ledger.opening import Ledger
from expunge.ledger.scope import Scope
from expunge.ledger.standing import Standing
from expunge.ledger.steps import current_history
from expunge.ledger.submitting import worded

WORDS = {"id": "id", "label": "class", "subject": "subject", "concept": "concept"}
"""What a value of a column is called."""
OUTCOMES = {
    NOWHERE: "No training row has it: the request would be answered with the evidence.",
    EARLIER: "All of it is forgotten already: the request would be answered at once.",
    EVERYTHING: "It names every row that is left: the request would be refused.",
}
DUPLICATES = {
    "report": "The policy lists near-duplicates in the account of the request and leaves them in.",
    "include": "The policy forgets near-duplicates with the records that were named.",
}


@dataclass(frozen=True)
class Touched:
    """A class of which rows are forgotten: its label, what it is called, its training rows, those
    that the scope names of them, and those that would be left."""

    label: str
    text: str
    rows: int
    named: int
    left: int


@dataclass(frozen=True)
class Preview:
    """What a scope would remove.

    Args:
        column: of the training table.
        rows: training rows that it names.
        forgotten: those of them that are forgotten already.
        copies: rows that repeat the named ones and are not forgotten; None where the policy does
            not look for them, where they cannot be looked for, or where nothing would be forgotten.
        exact: those of the copies that are equal, save for case and punctuation of a text.
        removed: rows that would be newly forgotten.
        held_out: held-out rows that it names; these measure the request.
        of: training rows of the model, without those of sealed requests.
        unknown: values that no training row has.
        sealed: whether a sealed request named the same.
        labels: classes that it touches; none where rows have no classes.
        reason: why nothing would be forgotten; None where something would.
        sentence: all that in one sentence.
        notes: what whoever asks should know beside it.
    """

    column: str
    rows: int
    forgotten: int
    copies: int | None
    exact: int | None
    removed: int
    held_out: int
    of: int
    unknown: tuple[str, ...]
    sealed: bool
    labels: tuple[Touched, ...]
    reason: str | None
    sentence: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def preview(ledger: Ledger, standing: Standing, scope: Scope) -> Preview:
    """What a scope would remove from a model as it is now.

    The first preview of a model prepares its table to be searched for copies, which can take as
    long as ``expunge find`` does; later ones use what was prepared.

    Args:
        ledger: where the model is registered.
        standing: the model.
        scope: in the words of the user, classes by number or text.

    Raises:
        ExpungeError: it names no value, or a column that the training table does not have.
    """
    scope = worded(ledger, standing.row, scope)
    with standing.lock:  # the search is prepared once, not by two at a time
        history = current_history(ledger, standing.row)
        found = meant(ledger, standing, scope, history.requests())
        repeated = copies_of(standing, found)
    copies = None if repeated is None or repeated.why else repeated.found
    taken = copies if copies and standing.policy.duplicates == "include" else ()
    fresh = 0 if found.reason else len(found.named) - len(found.forgotten) + len(taken)
    return Preview(
        scope.column,
        len(found.named),
        len(found.forgotten),
        None if copies is None else len(copies),
        None if copies is None else sum(copy.exact for copy in copies),
        fresh,
        len(standing.named_held_out(scope.target)),
        len(standing.material.train),
        found.unknown,
        found.sealed,
        _labels(standing, found, [copy.id for copy in taken]),
        found.reason,
        _sentence(scope, found, None if copies is None else len(copies)),
        tuple(_notes(standing, found, repeated, history.stale)),
    )


def _labels(standing: Standing, found: Meant, taken: Sequence[str]) -> tuple[Touched, ...]:
    material = standing.material
    columns = {n: values for n, values in grouping(material.train_table).items() if n == "label"}
    place = places(standing) if taken else {}
    rows = torch.tensor([*found.named, *(place[name] for name in taken)], dtype=torch.int64)
    gone = found.earlier.clone()
    gone[rows] = True
    groups: tuple[Group, ...] = groups_of(columns, {"label": Counter()}, rows, gone)
    texts = label_texts(material)
    return tuple(
        Touched(g.value, texts.get(g.value, g.value), g.rows, g.named, g.left) for g in groups
    )


def _sentence(scope: Scope, found: Meant, copies: int | None) -> str:
    """Such as "14 records of this subject, 2 near-duplicates, 3 already forgotten"."""
    named, forgotten = len(found.named), len(found.forgotten)
    word = WORDS.get(scope.column, f"value of {scope.column}")
    values, link = len(set(scope.values)), "with" if scope.column == "id" else "of"
    of = f"{link} this {word}" if values == 1 else f"{link} these {_count(values, word)}"
    parts = [f"{_count(named, 'record')} {of}"]
    if copies is not None:
        parts.append(_count(copies, "near-duplicate"))
    if found.sealed:
        parts.append("forgotten and sealed earlier")
    elif forgotten or found.reason is None:
        parts.append(f"{forgotten or 'none'} already forgotten")
    return ", ".join(parts)


def _notes(standing: Standing, found: Meant, copies: Copies | None, stale: bool) -> list[str]:
    notes = []
    if stale and found.reason is None:
        notes.append(
            "The model's training record is not that of its current weights, since a method that "
            "keeps none changed them: methods that need it would refuse."
        )
    if found.reason is not None:
        notes.append(OUTCOMES[found.reason])
    if found.unknown:
        notes.append(
            f"{_count(len(found.unknown), 'value')} that no training row has: "
            f"{', '.join(map(repr, found.unknown[:5]))}{' ...' if found.unknown[5:] else ''}."
        )
    if copies is not None and copies.why is not None:
        notes.append(f"Near-duplicates were not looked for: {copies.why}")
    elif copies is not None and copies.found:
        notes.append(DUPLICATES[standing.policy.duplicates])
    elif standing.policy.duplicates == "ignore":
        notes.append("The policy does not look for near-duplicates.")
    return notes


def _count(number: int, word: str) -> str:
    return f"{number:,} {word if number == 1 else _plural(word)}"


def _plural(word: str) -> str:
    first, _, rest = word.partition(" ")
    several = "classes" if first == "class" else f"{first}s"
    return f"{several} {rest}" if rest else several
