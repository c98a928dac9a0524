"""Duplicates left? No retained row repeats a forgotten one.

Small pictures and short records are alike without being copies. A near copy counts if it is more
alike than any row that nobody trained on is to a training row, by the same detector. Held-out rows
that repeat training rows themselves set no such bar.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from expunge.audit.finding import Copy, Finding, Search, Sought
from expunge.audit.inquiry import Inquiry
from expunge.audit.removal import contents
from expunge.audit.verdict import Evidence, Verdict
from expunge.data.duplicates.content import Searched

ASKS = "Are copies of forgotten rows left among those that were kept?"
TAUGHT = ("label", "target")
"""Fields that are no input."""

NEARER = 0.5
"""Share of the least distance of two held-out rows below which a held-out row repeats a training
row."""


def duplicates(inquiry: Inquiry) -> Verdict:
    """Exact and near copies in the training table; exact ones alone where there is no table."""
    removal = inquiry.removal
    if removal.searched is None or removal.forget_rows is None:
        return _exact_only(inquiry)
    rows = set(removal.forget_rows.tolist())
    forget = Sought(removal.name, removal.searched, tuple(sorted(rows)))
    search = Search((removal.searched,), removal.compared)
    (found,) = search.look([forget])
    unseen = removal.unseen
    bars = Bars({}, frozenset()) if unseen is None else Bars.of(unseen, search)
    least = bars.by_detector
    copies = [c for c in found.copies if c.exact or c.similarity > least.get(c.detector, 0.0)]
    notes = [f"Searched were {e.rows:,} rows by {e.column}." for e in found.evidence]
    chance = len(found.copies) - len(copies)
    if chance:
        notes.append(
            f"{chance} retained rows look alike, but no more than rows that nobody trained on do."
        )
    if bars.repeats:
        notes.append(
            f"How alike unrelated rows are was measured without {len(bars.repeats)} of the "
            "held-out rows: they equal a training row, or are far nearer to one than held-out rows "
            "are to one another."
        )
    if unseen is None:
        notes.append("Without a table of held-out rows, every near copy counts.")
    details = {"bars": least, "look-alikes": chance, "held-out repeats": sorted(bars.repeats)}
    evidence = _counted(inquiry, copies, details)
    return Verdict("duplicates left", ASKS, (evidence,), notes=tuple(notes))


@dataclass(frozen=True)
class Bars:
    """How alike rows are that have nothing to do with one another.

    Args:
        by_detector: the largest similarity of a held-out row to a training row.
        repeats: ids of the held-out rows that were left out of that, since they repeat one.
    """

    by_detector: Mapping[str, float]
    repeats: frozenset[str]

    @classmethod
    def of(cls, unseen: Searched, search: Search) -> Self:
        """The bars that a table of held-out rows sets in what is searched."""
        (found,) = search.look([Sought("held-out", unseen, tuple(range(len(unseen))))])
        repeats = _repeats(found, unseen, search.columns)
        if repeats:
            others = [row for row, name in enumerate(unseen.ids) if name not in repeats]
            (found,) = search.look([Sought("held-out", unseen, tuple(others))])
        bars: dict[str, float] = {}
        for copy in found.copies:
            bars[copy.detector] = max(copy.similarity, bars.get(copy.detector, 0.0))
        return cls(bars, repeats)


def _repeats(found: Finding, unseen: Searched, columns: tuple[str, ...]) -> frozenset[str]:
    """The held-out rows that are equal to a training row, or nearer to one than :data:`NEARER` of
    the distance of any two held-out rows: chance makes no such pair."""
    halves = Sought("held-out", unseen, tuple(range(0, len(unseen), 2)))
    (among,) = Search((unseen,), columns).look([halves])
    alike: dict[str, float] = {}
    known = [(copy.detector, copy.similarity) for copy in among.copies if not copy.exact]
    for detector, similarity in [*known, *((e.measure, e.similarity) for e in among.evidence)]:
        if similarity < 1:
            alike[detector] = max(similarity, alike.get(detector, 0.0))
    return frozenset(
        copy.of
        for copy in found.copies
        if copy.exact or 1 - copy.similarity < NEARER * (1 - alike.get(copy.detector, 1.0))
    )


def _counted(inquiry: Inquiry, copies: list[Copy], details: dict[str, object]) -> Evidence:
    allowed = inquiry.policy.duplicates.copies
    named = ", ".join(f"{c.id} (of {c.of}, {c.detector})" for c in copies[:3])
    more = f", and {len(copies) - 3} more" if len(copies) > 3 else ""
    said = f"such as {named}{more}; {allowed} may be" if copies else "of those that were searched"
    return Evidence.no_more(
        "copies among retained rows",
        f"{len(copies)} retained rows repeat a forgotten one, {said}.",
        float(len(copies)),
        0.0,
        "the training rows",
        float(allowed),
        details={
            **details,
            "copies": [
                {"id": c.id, "of": c.of, "detector": c.detector, "similarity": c.similarity}
                for c in copies
            ],
        },
    )


def _exact_only(inquiry: Inquiry) -> Verdict:
    """Rows whose inputs are equal number by number, whatever their labels."""
    known: dict[bytes, str] = {}
    for name, content in contents(inquiry.removal.forget, TAUGHT):
        known.setdefault(content, name)
    copies = [
        Copy("retained rows", name, known[content], "inputs", "exact", 1.0)
        for name, content in contents(inquiry.removal.retain, TAUGHT)
        if content in known
    ]
    note = "No training table was given, so only rows with equal inputs were looked for."
    return Verdict("duplicates left", ASKS, (_counted(inquiry, copies, {}),), notes=(note,))
