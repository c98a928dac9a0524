"""The report of an audit: one page, rendered from what the audit stored, for two kinds of readers.

First a summary that needs no knowledge of the field, then every figure with what it was held
against, its pictures, and what is needed to measure it again. The page has no script and asks
nothing of any server. Single forgotten rows are shown only where that is asked for.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup

from expunge.audit.audit_pictures import (
    Beside,
    Picture,
    Role,
    beside_picture,
    colours_of,
    histogram_picture,
    page_style,
    relearning_picture,
    roc_picture,
)
from expunge.audit.audit_schema import (
    UNKNOWN_STATE,
    StoredAttack,
    StoredAudit,
    StoredCopy,
    StoredEvidence,
    StoredMargins,
    StoredRate,
    StoredVerdict,
    checked_audit,
)
from expunge.audit.pages import pages
from expunge.audit.plots import DARK, LIGHT, shade, short_number, weight_of
from expunge.changes.deletion import DeletionState
from expunge.storage import write_bytes

MISSING = "–"
EXAMPLES = 12
"""Forgotten rows that are shown at most where examples are asked for."""

PLAIN: Mapping[str, Mapping[str, str]] = {
    "forgotten": {
        "pass": "The model treats the data as one that never saw it.",
        "fail": "The model does not treat the data as one that never saw it: it still knows it, or "
        "denies it conspicuously.",
        "not enough evidence": "Whether the model treats the data as one that never saw it could "
        "not be told.",
    },
    "kept": {
        "pass": "Everything else still works as well as it should.",
        "fail": "The removal damaged what the model should still know.",
        "not enough evidence": "Whether everything else still works could not be told.",
    },
    "private": {
        "pass": "The attacks that were tried cannot tell that the data was once used.",
        "fail": "An attack can tell that the data was once used.",
        "not enough evidence": "Whether an attack can tell that the data was once used could not "
        "be measured.",
    },
    "stays forgotten": {
        "pass": "Nothing that was tried brought the data back.",
        "fail": "The data comes back more easily than in a model that never saw it.",
        "not enough evidence": "Whether the data could be brought back was not fully tried.",
    },
    "deleted or suppressed": {
        "pass": "Deleted: no trace was found in the weights, beyond that of a model that never saw "
        "the data.",
        "fail": "Suppressed, not deleted: the weights still hold the data, and it can be brought "
        "out.",
        "not enough evidence": "Whether the data is deleted or only suppressed could not be told.",
    },
    "duplicates left": {
        "pass": "No copy of the removed data was found among the data that was kept.",
        "fail": "Copies of the removed data are still among the data that was kept.",
        "not enough evidence": "Whether copies of the removed data are left could not be told.",
    },
}
"""What each result means to somebody who does not know the field."""

OVERALL = {
    "pass": "Every question was answered, and every answer is a pass.",
    "fail": "At least one question came out against the model.",
    "not enough evidence": "Nothing came out against the model, but not every question could be "
    "answered. This is no pass.",
}

STATES: Mapping[str, str] = {
    UNKNOWN_STATE: "What became of the weights before, which still hold the data, is not part of "
    "this audit.",
    DeletionState.SUPPRESSED: "A guard acts on what the model answers. Its weights still hold the "
    "data and have to be protected.",
    DeletionState.RETRAINED: "The model in use was retrained without the data. The weights before "
    "still hold it; they have to be removed.",
    DeletionState.EDITED: "The model in use is an edit of weights that are kept. These weights "
    "still hold the data and have to be protected.",
    DeletionState.SEALED: "The model in use is an edit of weights that were destroyed, with "
    "everything that could undo it.",
    DeletionState.EXACT: "What the certificate covers is proven to be that of a model which was "
    "trained without the data. The weights before still hold it; they have to be removed.",
}
"""Deletion states in plain words."""

MARKS = {"pass": "✓", "fail": "✗", "not enough evidence": "?"}


@dataclass(frozen=True)
class Shown:
    """A picture on the page, its caption, and what else is said below it."""

    caption: str
    picture: Picture
    note: str = ""


@dataclass(frozen=True)
class Heat:
    """A persistence matrix: requests across, steps down."""

    requests: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[tuple[float, ...], ...]

    @property
    def scale(self) -> tuple[float, float]:
        """0 to 1 for shares; otherwise the least and the largest value."""
        values = [value for row in (self.before, *self.after) for value in row]
        low, high = min(values), max(values)
        if low >= 0 and high <= 1:
            return 0.0, 1.0
        return low, high if high > low else low + 1


@dataclass(frozen=True)
class Example:
    """One forgotten row: the probability of its right answer."""

    row: str
    before: float
    now: float
    oracles: float | None


@dataclass(frozen=True)
class Rate:
    """True positives of one attack at one rate of false positives."""

    attack: str
    at: float
    found: StoredRate
    before: float | None


@dataclass(frozen=True)
class Section:
    """One question on the page."""

    verdict: StoredVerdict
    plain: str
    reason: str
    sentences: tuple[tuple[str, str], ...]
    pictures: tuple[Shown, ...]
    attacks: int
    rates: tuple[Rate, ...]
    heat: Heat | None
    examples: tuple[Example, ...]
    copies: tuple[StoredCopy, ...]


def render_html(stored: object, *, examples: bool = False) -> str:
    """The page as text. Every string of the audit is escaped.

    Args:
        stored: what ``Audited.to_json`` gave, as it stands in ``audit.json``.
        examples: whether single forgotten rows are named, with the model's answers before and now.

    Raises:
        ExpungeError: it does not fit the published schema.
    """
    audit = stored if isinstance(stored, StoredAudit) else checked_audit(stored)
    page = pages()
    page.filters.update(number=_number, share=_share, cell=_cell)
    drawn: set[str] = set()
    sections = [_section(verdict, drawn, examples) for verdict in audit.verdicts]
    return page.get_template("audit.html.j2").render(
        audit=audit,
        sections=sections,
        overall=OVERALL[audit.result],
        state=STATES.get(audit.deletion_state, ""),
        marks=MARKS,
        examples=examples,
        thresholds=_flat(audit.policy),
        rules=Markup(page_style()),
        light=colours_of(LIGHT),
        dark=colours_of(DARK),
    )


def write_page(stored: object, path: Path, *, examples: bool = False) -> None:
    """Write the page to a file; everything is rendered before the file is touched.

    Raises:
        ExpungeError: the audit does not fit the published schema; nothing was written.
    """
    write_bytes(path, render_html(stored, examples=examples).encode())


def write_pictures(stored: object, folder: Path) -> list[Path]:
    """Every picture of the page as an SVG file, on a light ground; their names say question and
    picture.

    Raises:
        ExpungeError: the audit does not fit the published schema; nothing was written.
    """
    drawn: set[str] = set()
    written = []
    for verdict in checked_audit(stored).verdicts:
        for shown in _pictures(verdict, drawn):
            name = re.sub("[^a-z0-9]+", "-", f"{verdict.question} {shown.caption}".lower())
            path = folder / f"{name.strip('-')}.svg"
            write_bytes(path, shown.picture.standalone(LIGHT).encode())
            written.append(path)
    return written


def _section(verdict: StoredVerdict, drawn: set[str], examples: bool) -> Section:
    said = {item.sentence: _sentence(item, examples) for item in verdict.evidence}
    named = [item.details for item in verdict.evidence] if examples else []
    return Section(
        verdict,
        PLAIN.get(verdict.question, {}).get(verdict.result, verdict.reason),
        said.get(verdict.reason, verdict.reason),
        tuple((item.result, said[item.sentence]) for item in verdict.evidence),
        tuple(_pictures(verdict, drawn)),
        sum(item.details.roc is not None for item in verdict.evidence),
        tuple(rate for item in verdict.evidence for rate in _rates(item)),
        next((heat for item in verdict.evidence if (heat := _heat(item)) is not None), None),
        tuple(row for one in named if one.margins for row in _examples(one.margins)),
        tuple(copy for one in named for copy in one.copies or ()),
    )


def _sentence(item: StoredEvidence, examples: bool) -> str:
    """The sentence of a figure, without the names of rows where examples are left out."""
    if examples or not item.details.copies:
        return item.sentence
    return (
        f"{len(item.details.copies)} retained rows repeat a forgotten one; "
        f"{_number(item.threshold)} may be. Their names are left out here."
    )


def _pictures(verdict: StoredVerdict, drawn: set[str]) -> Iterator[Shown]:
    """Every picture that the details of a verdict allow; the same one is drawn once a page."""
    role: Role = "kept" if verdict.question == "kept" else "removed"
    beside = [one for item in verdict.evidence if (one := _beside(item)) is not None]
    if beside:
        note = "A dotted line is what the figure is held against."
        yield Shown("Beside what they are held against", beside_picture(beside, role), note)
    for item in verdict.evidence:
        for shown in _drawn(item):
            key = f"{shown.caption}: {shown.picture.body}"
            if key not in drawn:
                drawn.add(key)
                yield shown


def _beside(item: StoredEvidence) -> Beside | None:
    """A figure that has oracles, an interval or a value before to be drawn with."""
    details, interval = item.details, item.interval
    known = [v for v in details.oracles or () if isinstance(v, float)]
    ends = None
    if interval is not None and interval.low is not None and interval.high is not None:
        ends = (interval.low, interval.high)
    if item.value is None or (not known and ends is None and item.original is None):
        return None
    return Beside(item.name, item.value, tuple(known), ends, item.original, item.reference)


def _drawn(item: StoredEvidence) -> Iterator[Shown]:
    """What one figure's details can be drawn as."""
    details = item.details
    if details.margins is not None:
        yield _margins(details.margins)
    if details.roc is not None:
        name = _attack(item)
        note = ""
        if details.non_members and details.non_members < 1000:
            note = (
                f"The shaded part, below one false positive among {details.non_members} rows, "
                "cannot be measured."
            )
        yield Shown(f"ROC of the {name}", roc_picture(name, details.roc, item), note)
    if details.values is not None:
        yield _klom(item, details.values)
    if details.deployed is not None:
        yield _relearning(item, details.deployed)


def _margins(margins: StoredMargins) -> Shown:
    series: list[tuple[Role, str, list[float]]] = [("removed", "this model", margins.deployed)]
    if pooled := [value for one in margins.oracles for value in one]:
        series.append(("oracle", "oracles", pooled))
    series.append(("original", "the model before", margins.original))
    what = "the log-odds of the right answer on forgotten rows"
    return Shown("Log-odds of the right answer", histogram_picture(what, series, "nats"))


def _klom(item: StoredEvidence, values: list[float]) -> Shown:
    rows = item.name.rsplit(", ", 1)[-1]
    role: Role = "removed" if rows == "forget rows" else "kept"
    series: list[tuple[Role, str, list[float]]] = [(role, "models that unlearned", values)]
    if item.details.floor is not None:
        series.append(("oracle", "further oracles (floor)", item.details.floor))
    if isinstance(item.details.original, list) and item.details.original:
        series.append(("original", "models before", item.details.original))
    picture = histogram_picture(f"KLoM on {rows}", series, "nats")
    return Shown(f"KLoM on {rows}", picture, "0 nats: as an oracle answers, row by row.")


def _relearning(item: StoredEvidence, deployed: list[float]) -> Shown:
    details = item.details
    shown = f"{details.shown or 'some'} rows"
    if details.rate is not None:
        shown += f" at the rate {details.rate:g}"
    oracles = [curve for curve in details.oracles or () if isinstance(curve, list)]
    picture = relearning_picture(shown, deployed, oracles, details.level)
    return Shown(f"Relearning from {shown}", picture)


def _rates(item: StoredEvidence) -> Iterator[Rate]:
    """The rates that there are enough rows for."""
    original = item.details.original
    before = original.tpr_at_fpr if isinstance(original, StoredAttack) else {}
    for at, found in item.details.tpr_at_fpr.items():
        if found.value is not None:
            same = before.get(at)
            yield Rate(_attack(item), float(at), found, None if same is None else same.value)


def _attack(item: StoredEvidence) -> str:
    return item.name.removeprefix("AUC of the ")


def _heat(item: StoredEvidence) -> Heat | None:
    details = item.details
    if not details.requests or details.before is None or details.after is None:
        return None
    return Heat(tuple(details.requests), tuple(details.before), tuple(map(tuple, details.after)))


def _examples(margins: StoredMargins) -> list[Example]:
    """The rows that are answered furthest from the oracles, or changed most without any."""
    found = []
    for place, row in enumerate(margins.samples):
        known = [_probability(one[place]) for one in margins.oracles]
        found.append(
            Example(
                row,
                _probability(margins.original[place]),
                _probability(margins.deployed[place]),
                fmean(known) if known else None,
            )
        )
    found.sort(key=lambda e: -abs(e.now - (e.before if e.oracles is None else e.oracles)))
    return found[:EXAMPLES]


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, log_odds)))


def _flat(policy: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Every threshold by its path, such as ``private.apart``."""
    found: list[tuple[str, str]] = []
    for key, value in policy.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{above}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            found.append((above + key, text))
    return found


def _number(value: float | None) -> str:
    """Three decimals at most; a dash where nothing was measured."""
    if value is None:
        return MISSING
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return re.sub(r"\.?0+$", "", text).replace("-", "−") if "." in text else text


def _share(value: float | None) -> str:
    """A share in per cent, to a tenth."""
    return MISSING if value is None else f"{round(100 * value, 1):g} %"


def _cell(value: float, region: str, scale: tuple[float, float]) -> Markup:
    """One cell of a heat map: its number on the shade of its value, for both backgrounds."""
    weight, removed = weight_of(value, scale), region.startswith("removed")
    ground, text = shade(LIGHT, weight, removed=removed)
    dark_ground, dark_text = shade(DARK, weight, removed=removed)
    return Markup('<td class="cell {}" style="--l:{};--lt:{};--d:{};--dt:{}">{}</td>').format(
        region, ground, text, dark_ground, dark_text, short_number(value)
    )
