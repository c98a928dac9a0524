"""What the benchmark of smoothing found: a table at the level and one at the presets, and verdicts.

A form resists where its curves of relearning enclose a smaller area than those of plain NPO on the
same draw, under the same attack and at the same level. All figures are means over attacks; how many
draws agree is counted beside them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from expunge.benchmarks.facts.tables import Spread, Table
from expunge.benchmarks.smoothing.forms import PLAIN

HALF = 0.5
"""Share of the shown facts that relearning brings back."""

MOST = 0.8
"""Share of the draws in which a claim holds for it to be called reproduced: four of five."""

DRAWS = 5
"""In which a form and plain NPO have to have answered, for that to be said or denied."""

WAYS: Mapping[str, str] = {
    "level": "stopped at the oracle's log-probability",
    "preset": "at the preset, each as far as it goes",
}

COLUMNS = (
    "forget", "retain", "log p", "sharpness", "half after", "area", "held back, area", "p",
    "resists", "steps", "gradients",
)  # fmt: skip

Cell = Mapping[str, Any]


def area(curve: Sequence[float]) -> float:
    """The mean of a curve after every step; its value before any is left out."""
    return fmean(curve[1:])


def half_after(curve: Sequence[float]) -> int:
    """The first step after which half of what is shown is answered; one more than there are where
    that does not happen."""
    return next((step for step, share in enumerate(curve) if share >= HALF), len(curve))


def shown_area(cell: Cell) -> float:
    """Of the share of the shown facts that is answered, the mean over attacks."""
    return fmean(area(attack["shown"]) for attack in cell["attacks"])


def held_area(cell: Cell) -> float:
    """Of the share of the facts held back that is answered, the mean over attacks."""
    return fmean(area(attack["held"]) for attack in cell["attacks"])


def held_probability(cell: Cell) -> float:
    """Of the probability of the answers held back, the mean over attacks."""
    return fmean(area(attack["held probability"]) for attack in cell["attacks"])


def steps_to_half(cell: Cell) -> float:
    """The mean over attacks."""
    return fmean(half_after(attack["shown"]) for attack in cell["attacks"])


def smaller(
    cells: Iterable[Cell], plain: Iterable[Cell], figure: Callable[[Cell], float]
) -> tuple[int, int]:
    """In how many draws a figure is smaller than the plain form's; of how many where both are."""
    of_draw = {cell["draw"]: figure(cell) for cell in plain}
    pairs = [(figure(c), of_draw[c["draw"]]) for c in cells if c["draw"] in of_draw]
    return sum(one < other for one, other in pairs), len(pairs)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """One table of every form for each way."""
    return [_table(result, way) for way in WAYS if _cells(result, way)]


def _table(result: Mapping[str, Any], way: str) -> Table:
    every = _cells(result, way)
    plain = [c for c in every.get(PLAIN.name, []) if "attacks" in c]
    rows: list[Sequence[object]] = []
    for oracle, name in ((False, "base"), (True, "oracle")):
        cells = [c for c in result["references"] if c["oracle"] == oracle]
        rows.append((name, *_columns(cells), "", "", ""))
    for name, cells in every.items():
        answered = [c for c in cells if "attacks" in c]
        if not answered:
            rows.append((name, *["-"] * (len(COLUMNS) - 2), "refused", ""))
            continue
        resists = ""
        if name != PLAIN.name and plain:
            counts = (smaller(answered, plain, figure) for figure in (shown_area, held_probability))
            resists = ", ".join(f"{so} of {of}" for so, of in counts)
        refused = f" ({len(answered)} of {len(cells)})" if len(answered) < len(cells) else ""
        cost = (f"{fmean(c[key] for c in answered):.0f}" for key in ("steps", "rows"))
        rows.append((f"{name}{refused}", *_columns(answered), resists, *cost))
    return WAYS[way], ("", *COLUMNS), rows


def _columns(cells: Sequence[Cell]) -> list[object]:
    return [
        Spread.of(cell["forget"] for cell in cells),
        Spread.of(cell["retain"] for cell in cells),
        Spread.of(cell["log probability"] for cell in cells),
        Spread.of(cell["sharpness"][-1] for cell in cells),
        Spread.of(map(steps_to_half, cells)),
        Spread.of(map(shown_area, cells)),
        Spread.of(map(held_area, cells)),
        f"{fmean(map(held_probability, cells)):.3f}",
    ]


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """A line for every form and way: the two areas beside plain NPO's, and in how many draws they
    are smaller; and a line for every draw in which a form refused. Of fewer than :data:`DRAWS` it
    is not said whether the form resists."""
    found = []
    for way in WAYS:
        every = _cells(result, way)
        plain = [c for c in every.get(PLAIN.name, []) if "attacks" in c]
        for name, cells in every.items():
            found += [
                f"{name}, {way}, draw {c['draw']}: refused: {c['refused']}"
                for c in cells
                if "refused" in c
            ]
            answered = [c for c in cells if "attacks" in c]
            if name != PLAIN.name and plain and answered:
                found.append(_verdict(name, way, answered, plain))
    return found


def _verdict(name: str, way: str, cells: Sequence[Cell], plain: Sequence[Cell]) -> str:
    parts = []
    for word, figure in (
        ("shown", shown_area),
        ("held back", held_area),
        ("probability held back", held_probability),
    ):
        so, of = smaller(cells, plain, figure)
        parts.append(
            f"{word} {fmean(map(figure, cells)):.3f} (plain {fmean(map(figure, plain)):.3f}, "
            f"smaller in {so} of {of})"
        )
    so, of = smaller(cells, plain, held_probability)
    reached = "yes" if so >= MOST * of else "NO"
    if of < DRAWS:
        reached = f"too few draws to say ({of} of {DRAWS})"
    return f"{name}, {way}, resists relearning: {reached}: areas {'; '.join(parts)}"


def _cells(result: Mapping[str, Any], way: str) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in result["answers"]:
        if cell["way"] == way:
            found.setdefault(cell["form"], []).append(cell)
    return found


CAPTION = (
    "Mean±sd over draws. forget, retain: shares of facts that greedy decoding answers; log p: mean "
    "log-probability of the forgotten answers per token, in nats; sharpness: by how much the "
    "forget term rises a tenth uphill. Relearning, means over attacks: steps until half of the "
    "shown facts are answered (one more than were made where that does not happen); area under the "
    "share of the shown facts that is answered, and of those held back; p: area under the mean "
    "probability of the answers held back. resists: draws in which the area of the shown facts, "
    "and p, are smaller than those of npo-rt. gradients: rows whose gradient was taken in the "
    "descent."
)
"""What the columns are."""
