"""What the benchmark found, in tables and sentences: the map of effects, what each choice keeps.

Choices are compared where the facts are gone, so that none is credited for having forgotten less;
each at the look at which it keeps most.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch

from expunge.benchmarks.amnesia.protocol import CHOICES, EVERYTHING, RANDOM, STRONGEST, TRACED
from expunge.benchmarks.amnesia.work import map_of
from expunge.benchmarks.facts.tables import Cell, Spread, Table, knowledge_of, steps_of
from expunge.signals.causal_tracing import KINDS, PLACES, EffectMap

CAPTION = (
    "Effects: how much of the answer's probability comes back, mean over facts and draws, where "
    "one part of the clean run is put back at one token while the subject's embeddings have noise. "
    "A state that is put back at the last token in an upper layer brings any answer back, since "
    "nothing is read after it: at that token only lower layers say where a fact is. steps: of the "
    "looks at which at most the matched share of the forgotten facts is answered, the one with "
    "most retained; all figures beside it are of that step, mean±sd over draws. last step: of the "
    "whole descent. Of several strides each choice has its best, chosen on the very figures, which "
    "favours all alike. paraphrase F / R, log p, relearned, from others: as in `bench facts`."
)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    windows = dict.fromkeys(cell["window"] for cell in result["traces"])
    found = [_effects(result, window) for window in windows]
    return [*found, _choices(result), _curves(result)]


def mean_map(result: Mapping[str, Any], window: int | None) -> EffectMap:
    """The mean map over draws."""
    maps = [map_of(cell) for cell in result["traces"] if cell["window"] == window]
    return EffectMap(
        torch.stack([one.effects for one in maps]).nanmean(0),
        fmean(one.clean for one in maps),
        fmean(one.corrupted for one in maps),
        sum(one.facts for one in maps),
        sum(one.wrong for one in maps),
    )


def _effects(result: Mapping[str, Any], window: int | None) -> Table:
    found = mean_map(result, window)
    wide = "layers put back together as in the method" if window is None else "one layer at a time"
    title = (
        f"effects by layer, {wide}: {found.clean:.2f} clean, {found.corrupted:.2f} with noise, "
        f"{found.facts} facts"
    )
    rows: list[Sequence[object]] = []
    for kind in KINDS:
        for place in PLACES:
            effects = found.at(kind, place)
            if not bool(effects.isnan().all()):
                rows.append([f"{kind}, {place}", *(f"{one:.3f}" for one in effects.tolist())])
    return title, ["", *map(str, range(result["size"]["layers"]))], rows


COLUMNS = (
    "stride", "layers", "steps", "forget", "retain", "paraphrase F / R", "log p", "relearned",
    "from others", "last step F / R",
)  # fmt: skip


def _choices(result: Mapping[str, Any]) -> Table:
    rows: list[Sequence[object]] = []
    for name, gone in (("original", False), ("oracle", True)):
        cells = [cell for cell in result["references"] if bool(cell["without"]) == gone]
        rows.append([name, "", "", "", *_figures(cells), ""])
    for choice, cells in _by_choice(result):
        there = [cell["matched"] for cell in cells if cell["matched"] is not None]
        layers = dict.fromkeys(_layers(cell) for cell in cells)
        ends = [cell["end"] for cell in cells if "end" in cell]
        last = " / ".join(f"{fmean(end[p] for end in ends):.2f}" for p in ("forget", "retain"))
        shown = [Spread.of(cell["step"] for cell in there), *_figures(there)] if there else []
        if len(there) < len(cells):
            shown = [*shown, *["-"] * (7 - len(shown))]
            layers[f"not gone in {len(cells) - len(there)} of {len(cells)}"] = None
        rows.append([choice, cells[0]["stride"], "; ".join(layers), *shown, last if ends else "-"])
    title = f"at most {result['matched']:g} of the forgotten facts answered, by what moves"
    return title, ["", *COLUMNS], rows


def _figures(cells: Sequence[Cell]) -> list[object]:
    return [
        *knowledge_of(cells),
        Spread.of(map(steps_of, cells)),
        Spread.of(cell["from others"] for cell in cells),
    ]


def _curves(result: Mapping[str, Any]) -> Table:
    """Forgotten and retained share after equal numbers of steps."""
    steps = sorted({point[0] for cell in result["runs"] for point in cell["curve"]})
    rows: list[Sequence[object]] = []
    for choice, cells in _by_choice(result):
        shown = []
        for step in steps:
            at = [point for cell in cells for point in cell["curve"] if point[0] == step]
            pair = [f"{fmean(point[i] for point in at):.2f}" for i in (1, 2)] if at else ["-"]
            shown.append(" / ".join(pair))
        rows.append([choice, *shown])
    return "forgotten and retained share after so many steps", ["", *map(str, steps)], rows


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """What the map says, and whether moving few layers kept more than moving others."""
    found = mean_map(result, 1)
    lost = found.clean - found.corrupted
    told = [_of_place(found, lost, "last subject"), _of_place(found, lost, found.strongest("mlp"))]
    kept = {choice: _retained(cells) for choice, cells in _by_choice(result)}
    for mine in (TRACED, STRONGEST):
        for other in (RANDOM, EVERYTHING):
            both = [draw for draw in kept[mine] if draw in kept[other]]
            if not both:
                told.append(f"{mine} beside {other}: not both forgot the facts.")
                continue
            gain = Spread.of(kept[mine][draw] - kept[other][draw] for draw in both)
            told.append(f"{mine} beside {other}, retained at matched forgetting: {gain}.")
    bits = all(cell["kept bits"] for cell in result["runs"] if "kept bits" in cell)
    told.append(f"What was not to move {'has' if bits else 'does NOT have'} its bits.")
    return told


def _of_place(found: EffectMap, lost: float, place: str) -> str:
    mlp, attention = found.at("mlp", place), found.at("attention", place)
    top = int(mlp.argmax())
    half = slice(0, len(mlp) // 2)
    ratio = float(mlp[half].max() / attention[half].max().clamp(min=1e-6))
    return (
        f"At the token {place!r} the feed-forward part of one layer brings back {mlp[top]:.3f} of "
        f"the {lost:.3f} that noise takes at most, in layer {top} of {len(mlp)}; in the lower half "
        f"{ratio:.1f} times as much as an attention."
    )


def _retained(cells: Sequence[Cell]) -> dict[int, float]:
    return {c["draw"]: c["matched"]["retain"] for c in cells if c["matched"] is not None}


def _by_choice(result: Mapping[str, Any]) -> list[tuple[str, list[Cell]]]:
    """The runs of each choice at its best stride: where the facts are gone on most draws, and of
    those where most is retained."""
    found = []
    for choice in CHOICES:
        its = [cell for cell in result["runs"] if cell["choice"] == choice]
        strides = dict.fromkeys(cell["stride"] for cell in its)
        tried = [[cell for cell in its if cell["stride"] == stride] for stride in strides]
        found.append((choice, max(tried, key=_worth)))
    return found


def _worth(cells: Sequence[Cell]) -> tuple[int, float]:
    kept = _retained(cells).values()
    return len(kept), fmean(kept) if kept else 0.0


def _layers(cell: Cell) -> str:
    return "all" if cell["layers"] is None else " ".join(map(str, cell["layers"]))
