"""What the benchmark of sharded training found, as tables."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from expunge.benchmarks.classification.tables import Spread
from expunge.benchmarks.sharded.work import AFTER, FACTORS, ONE_SHARD, S3T

CAPTION = (
    "Accuracy in % on test rows, chance 10; mean±sd over seeds. Joint: ordinary fine-tuning, of "
    "all weights or of low-rank factors, about as many steps. Once nothing is left, a stream "
    "counts as chance: there the model has to be trained again. AUC: of the loss attack that "
    "tells the rows asked for from test rows, chance 50; the oracle of a kind never saw them. "
    "Removals: mean±sd over all streams of all seeds, and the standard error of the mean; m L H: "
    "slices drawn with equal chances, with replacement; rows: of slices as they are, without."
)

Table = tuple[str, Sequence[str], list[Sequence[object]]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    seeds, about = result["by seed"], f"{result['room']}, {result['rows']['private']} rows"
    first = seeds[0]
    return [
        (
            f"{about}: before any removal",
            ("model", "learning rate", "test accuracy"),
            [
                [kind, _rate(result, kind), _percent([s["accuracy"][kind] for s in seeds])]
                for kind in first["accuracy"]
            ],
        ),
        (
            f"{about}: test accuracy after so many removals, in random order",
            ("system", *map(str, AFTER)),
            _over_time(seeds, "streams"),
        ),
        (
            f"{about}: removals served until nothing is left",
            ("system", "measured", "standard error", "m L H", "rows"),
            [_lasting(name, seeds) for name in first["streams"]],
        ),
        (
            f"{about}: requests for slices drawn by a known prior",
            ("system", "removals", "slices x requests", *map(str, AFTER)),
            [
                [
                    name,
                    *(_mean([s["known prior"][name][what] for s in seeds]) for what in _WORTH),
                    *rest,
                ]
                for name, *rest in _over_time(seeds, "known prior")
            ],
        ),
        (
            f"{about}: all rows of one slice of each shard removed",
            ("model", "test accuracy", "accuracy on them", "AUC"),
            [
                [name, *(_percent([s["asked"][name][w] for s in seeds]) for w in _SHOWN)]
                for name in first["asked"]
            ],
        ),
        (
            f"{about}: what is stored",
            ("system", "nodes", "steps of all orders", "megabytes"),
            [
                [name, str(its["nodes"]), str(its["steps"]), f"{its['bytes'] / 1e6:.2f}"]
                for name, its in first["storage"].items()
            ],
        ),
    ]


_WORTH = ("lasted", "slices x requests")
_SHOWN = ("test", "asked", "auc")


def _rate(result: Mapping[str, Any], kind: str) -> str:
    return f"{result['rates'].get(kind, result['rates']['S3T, one order']):g}"


def _over_time(seeds: Sequence[Any], part: str) -> list[Sequence[object]]:
    return [
        [
            name,
            *(_percent([s[part][name]["accuracy"][place] for s in seeds]) for place in _places()),
        ]
        for name in seeds[0][part]
    ]


def _places() -> range:
    return range(len(AFTER))


def _lasting(name: str, seeds: Sequence[Any]) -> Sequence[object]:
    its = [s["streams"][name] for s in seeds]
    mean, error = lasted(its)
    every = [n for one in its for n in one["lasted"]]
    return [
        name,
        f"{mean:.1f}±{stdev(every):.1f}",
        f"{error:.1f}",
        f"{its[0]['expected, slices']:.1f}",
        f"{fmean(one['expected, rows'] for one in its):.1f}",
    ]


def lasted(its: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Mean number of removals over all streams, and its standard error."""
    every = [n for one in its for n in one["lasted"]]
    return fmean(every), stdev(every) / math.sqrt(len(every))


def _mean(values: Sequence[Sequence[float]]) -> str:
    spread = Spread.of(map(fmean, values))
    return "-" if spread is None else f"{spread.mean:.1f}±{spread.sd:.1f}"


def _percent(values: Sequence[float]) -> str:
    spread = Spread.of(values)
    return "-" if spread is None else f"{100 * spread.mean:.1f}±{100 * spread.sd:.1f}"


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """What was expected, and whether it was seen; each can fail."""
    seeds = result["by seed"]
    behind = [s["accuracy"][FACTORS] - s["accuracy"][ONE_SHARD] for s in seeds]
    sharded = [s["accuracy"][FACTORS] - s["accuracy"][S3T] for s in seeds]
    found = [
        f"Slice-wise against joint fine-tuning of factors: {_points(behind)} points behind in one "
        f"shard, {_points(sharded)} in {result['shards']} shards (within 3 was expected: "
        f"{_word(fmean(behind) <= 0.03)}, {_word(fmean(sharded) <= 0.03)})."
    ]
    best, sisa = "S3T, B = 4", "SISA, not retrained"
    ahead = [
        fmean(
            s["streams"][best]["accuracy"][place] - s["streams"][sisa]["accuracy"][place]
            for s in seeds
        )
        for place in _places()
    ]
    found.append(
        f"{best} at least as accurate as {sisa} after every number of removals: "
        f"{_word(min(ahead) >= 0)} ({', '.join(f'{100 * a:+.1f}' for a in ahead)})."
    )
    for name in seeds[0]["streams"]:
        its = [s["streams"][name] for s in seeds]
        mean, error = lasted(its)
        rows, slices = fmean(one["expected, rows"] for one in its), its[0]["expected, slices"]
        found.append(
            f"{name}: {mean:.1f} removals served, {(mean - rows) / error:+.1f} standard errors "
            f"from the {rows:.1f} of these slices without replacement (within 3: "
            f"{_word(abs(mean - rows) <= 3 * error)}), {(mean - slices) / error:+.1f} from m L H = "
            f"{slices:.1f} (within 3: {_word(abs(mean - slices) <= 3 * error)})."
        )
    found += [
        _leak(seeds, "S3T, B = 4: after the removal", "S3T, B = 1: oracle"),
        _leak(seeds, "S3T, B = 4: the newest heads kept (a leak)", "S3T, B = 1: oracle"),
    ]
    return found


def _leak(seeds: Sequence[Any], name: str, oracle: str) -> str:
    apart = [100 * (s["asked"][name]["auc"] - s["asked"][oracle]["auc"]) for s in seeds]
    return (
        f"AUC of {name!r} less that of {oracle!r}: {fmean(apart):+.1f} points, by seed "
        f"{', '.join(f'{a:+.1f}' for a in apart)}."
    )


def _points(values: Sequence[float]) -> str:
    return f"{100 * fmean(values):.1f}"


def _word(holds: bool) -> str:
    return "yes" if holds else "no"
