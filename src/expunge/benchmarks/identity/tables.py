"""What the benchmark found, as tables: every row beside the original and the retrained models."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from expunge.audit.kept import LEAST
from expunge.benchmarks.classification.tables import Spread
from expunge.benchmarks.identity.forms import ORACLE, ORIGINAL
from expunge.benchmarks.identity.verdict import BEYOND, FORGETS, MEMORISED, means

Cell = Mapping[str, Any]
Table = tuple[str, Sequence[str], list[Sequence[object]]]


def _percent(values: Sequence[float | None]) -> str:
    spread = Spread.of(values)
    return "-" if spread is None else f"{100 * spread.mean:.1f}±{100 * spread.sd:.1f}"


def _number(values: Sequence[float | None]) -> str:
    spread = Spread.of(values)
    return "-" if spread is None else f"{spread.mean:.2f}±{spread.sd:.2f}"


def _share(name: str) -> Callable[[Sequence[Cell]], str]:
    return lambda cells: _percent([cell["figures"][name] for cell in cells])


def _losses(cells: Sequence[Cell]) -> str:
    figures = [cell["figures"] for cell in cells]
    return _number([one["forget loss"] - one["unseen loss"] for one in figures])


def _seconds(cells: Sequence[Cell]) -> str:
    spread = Spread.of(cell["seconds"] for cell in cells)
    return "-" if spread is None else f"{spread.mean:.1f}"


COLUMNS: Mapping[str, Callable[[Sequence[Cell]], str]] = {
    "test": _share("accuracy"),
    "top-2": _share("top-2"),
    "a": _share("a"),
    "|a-50|": _share("deviation"),
    "f-u nats": _losses,
    "NoMUS": _share("NoMUS"),
    "forget": _share("forget"),
    "unseen": _share("unseen"),
    "retain": _share("retain"),
    "test gap": _share("accuracy to the oracles"),
    "a gap": _share("a to the oracles"),
    "forget gap": _share("forget to the oracles"),
    "s": _seconds,
}
"""What the terminal shows, and how it is read from the cells of a row; the JSON file has all."""

CAPTION = (
    "In percent, mean±sd over splits and seeds. test, top-2: of test persons, whom no model knows. "
    "a: accuracy of the attack that tells those to be forgotten from unseen persons by their loss, "
    "an even guess is 50; f-u: their mean loss less that of the unseen, below 0 where they are "
    "known better. NoMUS: mean of test and of 100 less twice |a-50|. gaps: distance to the mean of "
    "the retrained models, of a retrained one to the others. s: processor seconds, with those in "
    "which a preset finds its fields. *: less than 90 % of the original's accuracy in some cell."
)
"""What the columns are."""


def tables(result: Mapping[str, Any]) -> list[Table]:
    """One table for every way, each with the models on top."""
    cells: Sequence[Cell] = result["cells"]
    ways = list(dict.fromkeys(c["way"] for c in cells if c["name"] not in (ORIGINAL, ORACLE)))
    return [_table(result, way) for way in ways or ["models"]]


def _table(result: Mapping[str, Any], way: str) -> Table:
    cells: Sequence[Cell] = result["cells"]
    names = [ORIGINAL, ORACLE, *dict.fromkeys(c["name"] for c in cells if c["way"] == way)]
    rows: list[Sequence[object]] = []
    for name in dict.fromkeys(names):
        own = [c for c in cells if c["name"] == name and c["way"] in (way, "models")]
        sound = [c for c in own if "failed" not in c]
        if not sound:
            rows.append([name, "failed", *[""] * (len(COLUMNS) - 1)])
            continue
        mark = "*" if name != ORACLE and any(_collapsed(c, cells) for c in sound) else ""
        fewer = f" ({len(sound)} of {len(own)})" if len(sound) < len(own) else ""
        rows.append([f"{name}{mark}{fewer}", *(read(sound) for read in COLUMNS.values())])
    return f"{result['world']}, {way}", ["", *COLUMNS], rows


def _collapsed(cell: Cell, cells: Sequence[Cell]) -> bool:
    before = next(
        c
        for c in cells
        if (c["draw"], c["seed"], c["name"]) == (cell["draw"], cell["seed"], ORIGINAL)
    )
    return bool(cell["figures"]["accuracy"] < LEAST * before["figures"]["accuracy"])


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What was compared, chance, strengths, findings of the paper, and the verdict."""
    its, found = result["verdict"], means(result["cells"])
    first = result["people"][0]["parts"]
    parts = ", ".join(f"{name} {rows:,} ({n})" for name, (rows, n) in first.items())
    chance = 100 / result["classes"]
    constant = max(result["constant"], key=lambda one: float(one["NoMUS"]))
    said = [
        CAPTION,
        f"{result['about']}. Rows (persons) of the first split: {parts}. Chance: test "
        f"{chance:.1f}, top-2 {min(100.0, 2 * chance):.1f}, a 50. A model that always gives one "
        f"answer has {100 * constant['accuracy']:.1f} on test and NoMUS "
        f"{100 * constant['NoMUS']:.1f}: the score alone is no sign of a model that works.",
    ]
    for people in result["people"]:
        if people["divided"]:
            said.append(
                f"The published cut divides {', '.join(people['divided'])}: forgotten in part, "
                "retained in part."
            )
        if people["single"]:
            said.append(
                f"{len(people['single'])} of those to be forgotten have one record, as published."
            )
    said += [
        f"{c['name']}, {c['way']}, seed {c['seed']}: failed: {c['failed']}" for c in _failed(result)
    ]
    for trial in result["tuning"]:
        kept = "" if trial["kept"] else "; none kept the task, the smallest was taken"
        said.append(
            f"Draw {trial['draw']}, {trial['form']}: {trial['multiple']:g} times the published "
            f"rate, chosen on validation persons{kept}."
        )
    above = ", ".join(its["above the retrained"]) or "none"
    said.append(f"Higher NoMUS than the retrained model: {above}.")
    if not its["memorised"]:
        a, oracle = (100 * found["models", name]["a"] for name in (ORIGINAL, ORACLE))
        return [
            *said,
            f"Verdict: not judged. The attack says {a:.1f} of the original and {oracle:.1f} of the "
            f"retrained model; more than {100 * MEMORISED:.0f} and {100 * BEYOND:.0f} points above "
            "the retrained one are expected: by it there is nothing to forget.",
        ]
    said += [
        f"{'Holds' if one['holds'] else 'DOES NOT HOLD'}: {one['finding']} ({one['measured']})."
        for one in its["expected"]
    ]
    for row in its["rows"]:
        said.append(
            f"{row['name']}, {row['way']}: forgets in {row['forgets']} of {row['cells']} cells, "
            f"keeps the task in {row['keeps']}, both in {row['both']}."
        )
    reached = ", ".join(its["reached"]) or "no row"
    return [
        *said,
        f"Verdict: persons are forgotten while the task is kept, in every cell, by {reached}. "
        f"Forgotten: at most {100 * FORGETS:.0f} % of the original's distance to the retrained "
        "models is left, in the attack and in the accuracy on those who left, on average; kept: at "
        "most two points under the retrained models on test persons.",
    ]


def _failed(result: Mapping[str, Any]) -> list[Cell]:
    return [cell for cell in result["cells"] if "failed" in cell]
