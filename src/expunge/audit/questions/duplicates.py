"""Duplicates left? No retained row repeats a forgotten one.

Small pictures and short records are alike without being copies. A near copy counts if it is more
alike than any row that nobody trained on is to a training row, by the same detector.
"""

import torch

from expunge.audit.finding import Copy, Search, Sought
from expunge.audit.inquiry import Inquiry
from expunge.audit.verdict import Evidence, Result, Verdict
from expunge.data.samples import ROW, Samples

ASKS = "Are copies of forgotten rows left among those that were kept?"
TAUGHT = {"label", "target", ROW}
"""Fields that are no input."""


def duplicates(inquiry: Inquiry) -> Verdict:
    """Exact and near copies in the training table; exact ones alone where there is no table."""
    removal = inquiry.removal
    if removal.searched is None or removal.forget_rows is None:
        return _exact_only(inquiry)
    rows = set(removal.forget_rows.tolist())
    forget = Sought(removal.name, removal.searched, tuple(sorted(rows)))
    search = Search((removal.searched,), removal.compared)
    (found,) = search.look([forget])
    bars = _bars(inquiry, search)
    copies = [c for c in found.copies if c.exact or c.similarity > bars.get(c.detector, 0.0)]
    notes = [f"Searched were {e.rows:,} rows by {e.column}." for e in found.evidence]
    chance = len(found.copies) - len(copies)
    if chance:
        notes.append(
            f"{chance} retained rows look alike, but no more than rows that nobody trained on do."
        )
    if removal.unseen is None:
        notes.append("Without a table of held-out rows, every near copy counts.")
    evidence = _counted(inquiry, copies, {"bars": bars, "look-alikes": chance})
    return Verdict("duplicates left", ASKS, (evidence,), notes=tuple(notes))


def _bars(inquiry: Inquiry, search: Search) -> dict[str, float]:
    """By detector, the largest similarity of a held-out row to a training row."""
    unseen = inquiry.removal.unseen
    if unseen is None:
        return {}
    (chance,) = search.look([Sought("held-out", unseen, tuple(range(len(unseen))))])
    bars: dict[str, float] = {}
    for copy in chance.copies:
        if not copy.exact:
            bars[copy.detector] = max(copy.similarity, bars.get(copy.detector, 0.0))
    return bars


def _counted(inquiry: Inquiry, copies: list[Copy], details: dict[str, object]) -> Evidence:
    allowed = inquiry.policy.duplicates.copies
    named = ", ".join(f"{c.id} (of {c.of}, {c.detector})" for c in copies[:3])
    more = f", and {len(copies) - 3} more" if len(copies) > 3 else ""
    said = f"such as {named}{more}; {allowed} may be" if copies else "of those that were searched"
    return Evidence(
        "copies among retained rows",
        Result.FAIL if len(copies) > allowed else Result.PASS,
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
    for name, content in _contents(inquiry.removal.forget):
        known.setdefault(content, name)
    copies = [
        Copy("retained rows", name, known[content], "inputs", "exact", 1.0)
        for name, content in _contents(inquiry.removal.retain)
        if content in known
    ]
    note = "No training table was given, so only rows with equal inputs were looked for."
    return Verdict("duplicates left", ASKS, (_counted(inquiry, copies, {}),), notes=(note,))


def _contents(samples: Samples) -> list[tuple[str, bytes]]:
    """Each row's id and the bytes of its inputs."""
    fields = sorted(samples.fields - TAUGHT)
    found: list[tuple[str, bytes]] = []
    ids = list(samples.ids)
    for start in range(0, len(samples), 1024):
        rows = torch.arange(start, min(start + 1024, len(samples)))
        batch = samples.batch(rows, fields)
        for place in range(len(rows)):
            content = b"".join(batch[name][place].contiguous().numpy().tobytes() for name in fields)
            found.append((ids[start + place], content))
    return found
