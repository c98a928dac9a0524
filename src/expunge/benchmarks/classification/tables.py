"""What the benchmark found, as tables: every method beside originals and oracles.

A figure that is to be close to the oracle's is read against the mean over the oracles; how far the
oracles are from each other is the least that can be asked for.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from expunge.audit.kept import LEAST
from expunge.benchmarks.classification.rows import RELEARNING, Figures, gap
from expunge.benchmarks.classification.work import AVERAGED

Setting = Literal["preset", "preset, matched", "tuned", "tuned, matched"]

SETTINGS: Mapping[Setting, str] = {
    "preset": "shipped presets, as they come",
    "preset, matched": "shipped presets, matched at equal retained accuracy",
    "tuned": "tuned on validation rows, as they come",
    "tuned, matched": "tuned on validation rows, matched at equal retained accuracy",
}
"""How methods are shown."""

COLUMNS = {
    "UA": "UA",
    "RA": "RA",
    "TA": "TA",
    "held-out forgotten": "held",
    "LR-MIA": "LR",
    "SVC-MIA": "SVC",
    "gap": "gap",
    "ToW": "ToW",
    "AIN": "AIN",
    "RTE": "RTE",
}
"""What the terminal shows of the figures, and its headings; the JSON file has all."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) over seeds."""

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """Of the values that there are; None where there is none."""
        found = [value for value in values if value is not None]
        if not found:
            return None
        return cls(fmean(found), stdev(found) if len(found) > 1 else math.nan)

    def __str__(self) -> str:
        """In percent."""
        mean = f"{100 * self.mean:.0f}"
        return mean if math.isnan(self.sd) else f"{mean}±{100 * self.sd:.0f}"


@dataclass(frozen=True)
class Line:
    """One method on one request: its figures over seeds, what failed, and what it lost."""

    name: str
    figures: Mapping[str, Spread | None]
    failed: str | None = None
    kept: float | None = None
    warned: tuple[str, ...] = ()

    @property
    def collapsed(self) -> bool:
        """Whether less is kept than :data:`~expunge.audit.kept.LEAST`."""
        return self.kept is not None and self.kept < LEAST

    def content(self) -> dict[str, Any]:
        """As JSON values."""
        figures = {
            name: None if found is None else [found.mean, _finite(found.sd)]
            for name, found in self.figures.items()
        }
        own = {"failed": self.failed, "kept": self.kept, "warned": list(self.warned)}
        return {"figures": figures, **own}


def settings_of(request: Mapping[str, Any]) -> list[Setting]:
    """The settings that at least one method was run in."""
    run = {setting for settings in request["methods"].values() for setting in settings}
    return [setting for setting in SETTINGS if setting.partition(", ")[0] in run]


def lines(request: Mapping[str, Any], setting: Setting) -> list[Line]:
    """Original, oracle, and every method that has something to show, in alphabetical order."""
    references = request["references"]
    oracles, originals = references["oracles"], references["originals"]
    apart = [gap(one, others, AVERAGED) for one, others in each_and_others(oracles)]
    of_oracles = _figures(oracles, oracles, [1.0] * len(oracles)) | {"gap": Spread.of(apart)}
    found = [
        Line("original", _figures(originals, oracles, [None] * len(originals))),
        Line("oracle", of_oracles),
    ]
    for name, settings in sorted(request["methods"].items()):
        chosen, _, matched = setting.partition(", ")
        cells = settings.get(chosen)
        if cells is None:
            found.append(Line(name, {}, "every trial failed"))
            continue
        failed = next((c["failed"] for c in cells if "failed" in c), None)
        if failed is not None:
            found.append(Line(name, {}, failed))
            continue
        models = [c[matched or "as it comes"] for c in cells]
        shares = [
            (c["seconds"] + c["fitting seconds"]) / request["retraining seconds"] for c in cells
        ]
        kept = min(kept_of(one, before) for one, before in zip(models, originals, strict=True))
        warned = dict.fromkeys(words for c in cells for words in c.get("warnings", ()))
        found.append(Line(name, _figures(models, oracles, shares), None, kept, tuple(warned)))
    return found


def each_and_others(oracles: Sequence[Figures]) -> list[tuple[Figures, list[Figures]]]:
    """Each oracle with the others: a mean that holds it would be too near to it."""
    return [(one, [o for o in oracles if o is not one]) for one in oracles]


def kept_of(one: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    """The smaller share kept of the accuracies on retain rows and on other test rows."""
    return min(one[name] / before[name] if before[name] else 1.0 for name in ("RA", "TA"))


def _figures(
    cells: Sequence[Figures],
    oracles: Sequence[Figures],
    shares: Sequence[float | None],
) -> dict[str, Spread | None]:
    names = dict.fromkeys(name for cell in cells for name in cell)
    own = {name: Spread.of(cell.get(name) for cell in cells) for name in names}
    return {
        **own,
        "gap": Spread.of(gap(c, oracles, AVERAGED) for c in cells),
        "RTE": Spread.of(shares),
    }


Table = tuple[str, Sequence[str], list[Sequence[object]], list[str]]
"""Title, columns, rows, and sentences below."""


def tables(result: Mapping[str, Any]) -> list[Table]:
    """One table for every request of every world and every setting; and what presets keep."""
    found = []
    for world, content in result["worlds"].items():
        for kind, request in content["requests"].items():
            title = (
                f"{world}, {kind}: {request['request']} ({request['forget rows']:,} of "
                f"{content['rows']['train']:,} rows)"
            )
            found += [
                _table(f"{title}; {SETTINGS[setting]}", lines(request, setting), setting)
                for setting in settings_of(request)
            ]
    return [*found, kept_table(result)]


def kept_table(result: Mapping[str, Any]) -> Table:
    """What every shipped preset keeps, in the worst seed: methods by requests of worlds."""
    asked = {
        f"{world}, {kind}": {line.name: line for line in lines(request, "preset")}
        for world, found in result["worlds"].items()
        for kind, request in found["requests"].items()
    }
    names = sorted(set().union(*asked.values()) - {"original", "oracle"})
    rows: list[Sequence[object]] = [
        [name, *(_kept_cell(of_request.get(name)) for of_request in asked.values())]
        for name in names
    ]
    below = [
        "In percent of the original's accuracy, the smaller of retain and other test rows, worst "
        "seed. refused: the preset found no fields that fit, and said so. A mark * is below "
        f"{100 * LEAST:.0f} %: `expunge forget` refuses such an answer and says what was lost. "
        "-: the method does not fit the model."
    ]
    return "What shipped presets keep", ["", *asked], rows, below


def _kept_cell(line: Line | None) -> str:
    if line is None:
        return "-"
    if line.kept is None:
        return "refused"
    return f"{100 * line.kept:.0f}{'*' if line.collapsed else ''}"


def content(result: Mapping[str, Any]) -> dict[str, Any]:
    """The lines of every table as JSON values: world, request, setting, method."""
    return {
        world: {
            kind: {
                setting: {line.name: line.content() for line in lines(request, setting)}
                for setting in settings_of(request)
            }
            for kind, request in found["requests"].items()
        }
        for world, found in result["worlds"].items()
    }


def _table(title: str, rows: Sequence[Line], setting: Setting) -> Table:
    oracle = next(line for line in rows if line.name == "oracle")
    shown: list[Sequence[object]] = [
        [line.name, *(_cell(line, column, oracle) for column in COLUMNS)]
        for line in rows
        if line.failed is None
    ]
    below = [f"{line.name}: {line.failed}" for line in rows if line.failed is not None]
    below += [f"{line.name}: {line.warned[0]}" for line in rows if line.warned]
    if setting == "preset":
        lost = [f"{line.name} ({100 * (line.kept or 0):.0f} %)" for line in rows if line.collapsed]
        if lost:
            below.append(
                f"Keep less than {100 * LEAST:.0f} % of the original's accuracy on retain or test "
                f"rows in a seed, below what `expunge forget` accepts: {', '.join(lost)}"
            )
    return title, ["", *COLUMNS.values()], shown, below


def _cell(line: Line, column: str, oracle: Line) -> str:
    """A figure; of relearning with the marks of a bound."""
    found = line.figures.get(column)
    if found is None:
        return "-"
    if column != "AIN":
        return str(found)
    short = [its.figures.get("not relearned") for its in (line, oracle)]
    marks = [mark for its, mark in zip(short, "><", strict=True) if its is not None and its.mean]
    return "".join(marks) + str(found)


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value


CAPTION = (
    "All in percent, mean and sd over seeds. UA: forget rows not answered with their own class; "
    "RA, TA: accuracy on retain and on other test rows; held: accuracy on test rows of what was "
    "forgotten. LR: share of forget rows that logistic regression on the entropy calls members; "
    "SVC: share that support vectors call non-members. gap: mean distance to the oracles in UA, "
    "RA, TA and LR; an oracle's is to the other oracles. ToW: 100 is the oracle. AIN: steps on "
    "training rows until nineteen twentieths of what the original answered of the forget rows is "
    f"back, over those of the oracle of the same seed (an oracle's: of the others), "
    f"{RELEARNING.steps} steps at most; > where a seed was short of it after all of them, < where "
    "an oracle was; of what is matched it is not measured. RTE: processor "
    "seconds of the request as a share of retraining: with those in which a preset finds its "
    "fields, without those of what is prepared before the request. All are read against "
    "the oracle's row, never against 0, 50 or 100."
)
"""What the columns are."""
