"""What the benchmark of concepts found, as tables and a sentence a world."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from expunge.benchmarks.concepts.protocol import right
from expunge.benchmarks.concepts.work import LADDER, POISONED, TUNED
from expunge.benchmarks.facts.tables import Spread, Table

LEFT_OF_IT = ("forget", "class", "retain", "others", "loss MIA", "probe", "brought back")
WHERE_IT_GOES = (
    "entropy", "to one class", "to the nearest", "to the fixed", "activation distance",
)  # fmt: skip

CAPTION = (
    "forget: training rows of the class answered right; class: held-out rows of it; retain, "
    "others: of the other classes, alike. entropy: of the answers to held-out rows of the class, "
    "in nats. to one class: the largest share of them that one other class gets. activation "
    "distance: of answers to forget rows, to those of the oracles. loss MIA: .5 is chance. probe: "
    "balanced accuracy of a linear probe for the class on what the last layer is given, .5 is "
    "chance. brought back: share of the class that a constant added to its logit brings back at 5 "
    "% of the others. mean±sd over seeds; random half: three a seed. whole class: random labels on "
    "all rows, as many steps. other half: carries the concepts least; confident half: largest "
    "log-odds of the class."
)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    found: list[Table] = []
    for name, its in result["worlds"].items():
        about = f"{name}: {its['request']} forgotten, rate {its['rate']}"
        for title, columns in (("", LEFT_OF_IT), (", where it goes", WHERE_IT_GOES)):
            rows: list[Sequence[object]] = [
                [row, *_figures(its, row, columns)]
                for row in ("original", "oracle", TUNED, *POISONED)
            ]
            found.append((about + title, ["", *columns], rows))
        steps: list[Sequence[object]] = [
            [rate, *_rung(levels)] for rate, levels in its["ladder"].items()
        ]
        heads = ["rate", *(f"{row}: {which}" for row in LADDER for which in ("class", "others"))]
        found.append((f"{name}: held-out rows answered right by learning rate", heads, steps))
        found.append(_concepts(name, its))
    return found


def sentences(result: Mapping[str, Any]) -> list[str]:
    """The caption, and a verdict a world."""
    return [CAPTION, *(_sentence(name, its) for name, its in result["worlds"].items())]


def _figures(its: Mapping[str, Any], row: str, columns: Sequence[str]) -> list[str]:
    """Mean and deviation over seeds, each seed's halves averaged first."""
    seeds: Sequence[Any] = [seed["rows"][row] for seed in its["seeds"]]
    shown = []
    for column in columns:
        values = [[half[column] for half in seed] for seed in seeds]
        known = [fmean(seed) for seed in values if None not in seed]
        shown.append(str(Spread.of(known)) if known else "-")
    return shown


def _rung(levels: Sequence[Any]) -> list[str]:
    return [
        str(Spread.of(right(level, row, "test", which) for level in levels))
        for row in LADDER
        for which in ("class", "others")
    ]


def _concepts(name: str, its: Mapping[str, Any]) -> Table:
    """The concepts of the first seed, and what is known of bank and bottleneck in all."""
    told = [seed["concepts"] for seed in its["seeds"]]
    first = told[0]["classes"][str(its["seeds"][0]["class"])]
    rows: list[Sequence[object]] = [
        [c["concept"], c["importance"], c["exclusivity"], c["read right"]] for c in first
    ]
    facts = {
        fact: str(Spread.of(one[fact] for one in told)) for fact in told[0] if fact != "classes"
    }
    about = "; ".join(f"{fact} {value}" for fact, value in facts.items())
    heads = ["concept", "importance", "exclusivity", "read right"]
    return f"{name}: concepts of the class, seed 0 ({about})", heads, rows


def _sentence(name: str, its: Mapping[str, Any]) -> str:
    found = its["verdict"]
    said = {key: _fine(values) for key, values in found.items() if key != "verdict"}
    beyond = "more than" if min(found["beyond confidence"]) > 0 else "no more than"
    return (
        f"{name}: rows chosen by concepts forget better than random ones: {found['verdict']}. Over "
        f"all rates the class is answered less by {said['less']} (the half that carries them "
        f"least: {said['other half']}; the confident half: {said['confident half']}), the other "
        f"classes by {said['cost']}. They forget {beyond} the rows of which the model is surest, "
        f"for which no concept is needed: less by {said['beyond confidence']}."
    )


def _fine(values: Sequence[float]) -> str:
    """Mean and deviation with three decimals: differences are small."""
    found = Spread.of(values)
    return f"{found.mean:.3f}±{found.sd:.3f}"
