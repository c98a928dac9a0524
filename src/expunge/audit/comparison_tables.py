"""What a comparison found, as rows, records and tests: pure functions of its cells."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from expunge.audit.comparison import (
    AS_IT_COMES,
    MATCHED,
    ORACLE,
    ORIGINAL,
    VARIANTS,
    Cell,
    Contender,
    Outcome,
    Variant,
)
from expunge.audit.gap import Scores, average_gap, unit_of
from expunge.audit.paired import LEVEL, Paired, compared_in_pairs, seeds_needed, smallest_p
from expunge.signals.metric import Metric

WIDEST = 6
"""Requests that have a column each in a table; with more, their mean has one."""

FORGET_ROWS, RETAINED, GAP = "forget rows", "retained", "gap"
SECONDS, MEMORY = "seconds", "MiB"
OTHERS = (FORGET_ROWS, RETAINED, GAP, SECONDS, MEMORY)
"""The columns that every table has."""

MEAN = "requests, mean"


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over ``count`` seeds; ``sd`` is None for one seed."""

    mean: float
    sd: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        """Of what was measured; None where nothing was."""
        found = [v for v in values if v is not None and math.isfinite(v)]
        if not found:
            return None
        return cls(fmean(found), stdev(found) if len(found) > 1 else None, len(found))


@dataclass(frozen=True)
class Row:
    """One row of a table: a model or method, its columns, and what has to be said of it."""

    name: str
    columns: Mapping[str, Spread | None]
    factor: Spread | None
    note: str


@dataclass(frozen=True)
class Compared:
    """A finished comparison.

    ``requests`` are their names, ``cells`` by row and seed, ``chance`` what guessing scores,
    ``retrained`` whether every seed has a base of its own, ``facts`` what else each record holds.
    """

    requests: tuple[str, ...]
    metric: Metric
    chance: float | None
    tolerance: float
    seeds: tuple[int, ...]
    retrained: bool
    contenders: tuple[Contender, ...]
    cells: Mapping[tuple[str, int], Cell]
    facts: Mapping[str, str]

    @property
    def has_oracle(self) -> bool:
        """Whether there is anything to be near to."""
        return (ORACLE, self.seeds[0]) in self.cells

    def outcome(self, name: str, seed: int, variant: Variant) -> Outcome | None:
        """What a row gave on a seed; original and oracle are the same in both variants."""
        cell = self.cells.get((name, seed))
        if cell is None:
            return None
        return cell.outcome(AS_IT_COMES if name in (ORIGINAL, ORACLE) else variant)

    def scores(self, name: str, seed: int, variant: Variant = AS_IT_COMES) -> Scores | None:
        """The scores of :meth:`outcome`."""
        found = self.outcome(name, seed, variant)
        return None if found is None else found.scores

    def gap(self, name: str, seed: int, variant: Variant) -> float | None:
        """The average gap to the oracle of the same seed."""
        mine, oracle = self.scores(name, seed, variant), self.scores(ORACLE, seed)
        original = self.scores(ORIGINAL, seed)
        if mine is None or oracle is None or original is None:
            return None
        return average_gap(mine, oracle, unit_of(self.metric, original))

    def columns(self) -> list[str]:
        """The headings: each request's held-out rows, or their mean if there are many."""
        held_out = [MEAN] if len(self.requests) > WIDEST else list(map(_heading, self.requests))
        return [*held_out, *OTHERS]

    def rows(self, variant: Variant) -> list[Row]:
        """Original, oracle and every method; means and spreads over seeds."""
        names = [ORIGINAL, *([ORACLE] if self.has_oracle else [])]
        return [self._row(n, variant) for n in [*names, *(c.name for c in self.contenders)]]

    def _row(self, name: str, variant: Variant) -> Row:
        found = [self.outcome(name, seed, variant) for seed in self.seeds]
        outcomes = [o for o in found if o is not None]
        columns: dict[str, Spread | None] = {}
        if len(self.requests) <= WIDEST:
            for j, request in enumerate(self.requests):
                columns[_heading(request)] = Spread.of([o.scores.held_out[j] for o in outcomes])
        else:
            columns[MEAN] = Spread.of([_mean(o.scores.held_out) for o in outcomes])
        cells = [self.cells[name, seed] for seed in self.seeds]
        columns[FORGET_ROWS] = Spread.of([_mean(o.scores.forget_rows) for o in outcomes])
        columns[RETAINED] = Spread.of([o.scores.retained for o in outcomes])
        columns[GAP] = Spread.of([self.gap(name, seed, variant) for seed in self.seeds])
        columns[SECONDS] = Spread.of([cell.seconds for cell in cells])
        columns[MEMORY] = Spread.of([_mebibytes(cell.peak_bytes) for cell in cells])
        factor = None
        if variant == MATCHED and name not in (ORIGINAL, ORACLE):
            factor = Spread.of([o.factor for o in outcomes])
        return Row(name, columns, factor, self._note(name, variant))

    def _note(self, name: str, variant: Variant) -> str:
        """Which seeds are missing, and why."""
        unfit = self.cells[name, self.seeds[0]].unfit
        if unfit is not None:
            return f"Does not fit: {unfit}."
        said: dict[str, list[int]] = {}
        for seed in self.seeds:
            if why := self.cells[name, seed].reason(variant):
                said.setdefault(why, []).append(seed)
        return " ".join(
            f"Failed on {'seed' if len(seeds) == 1 else 'seeds'} "
            f"{', '.join(map(str, seeds))}: {why}"
            for why, seeds in said.items()
        )

    def tests(self, variant: Variant) -> dict[str, list[Paired]]:
        """Every pair of methods, by outcome: the average gap, where there is an oracle, and the
        retained score. Holm's correction is over the pairs of one outcome."""
        values = {
            GAP: self._by_seed(lambda name, seed: self.gap(name, seed, variant)),
            RETAINED: self._by_seed(lambda name, seed: self._retained(name, seed, variant)),
        }
        return {name: pairs for name, v in values.items() if (pairs := compared_in_pairs(v))}

    def _retained(self, name: str, seed: int, variant: Variant) -> float | None:
        found = self.scores(name, seed, variant)
        return None if found is None else found.retained

    def _by_seed(self, measured: Callable[[str, int], float | None]) -> dict[str, dict[int, float]]:
        """By method and seed; what was not measured is left out."""
        return {
            c.name: {s: v for s in self.seeds if (v := measured(c.name, s)) is not None}
            for c in self.contenders
        }

    def caption(self) -> str:
        """What has to be known to read the table."""
        seeds = _counted(len(self.seeds), "seed")
        models = (
            "base and oracle retrained for each"
            if self.retrained
            else "one model for all of them, since there is no recipe: only the seed of the method "
            "varies"
        )
        spread = "mean ± standard deviation over " if len(self.seeds) > 1 else ""
        lower = self.metric.direction == "lower"
        better = "lower is better" if lower else "higher is better"
        unit = ", as a share of the original's retained error" if lower else ""
        guess = "" if self.chance is None else f" Guessing scores {self.chance:.2g}."
        oracle = (
            "Forgotten rows are to score as the oracle scores them, not as low as possible; gap is "
            "the mean of the absolute differences to it on the requests' rows, on their forget "
            f"rows (training) and on retained rows{unit}."
            if self.has_oracle
            else "There is no oracle: how much should be forgotten is not known."
        )
        return (
            f"{self.metric.name[:1].upper()}{self.metric.name[1:]} on test rows ({better} on "
            f"retained rows), {spread}{seeds} ({models}).{guess} {oracle}"
        )

    def level(self) -> str:
        """What "matched" means here."""
        amount = (
            f"{self.tolerance:.3g} times the original's error more"
            if self.metric.direction == "lower"
            else f"{self.tolerance:.3g} less"
        )
        return (
            "Matched: each change scaled by the largest factor (at most 4 for deltas, 1 for new "
            f"weights) that keeps the retained score on validation rows at the original's, or at "
            f"most {amount}. The table shows test rows."
        )

    def caution(self) -> str:
        """How much these tests can show at all."""
        most = max((len(pairs) for pairs in self.tests(AS_IT_COMES).values()), default=0)
        if most == 0:
            return "No two methods answered on one seed, so nothing was tested."
        smallest = smallest_p(len(self.seeds))
        said = (
            f"Exact sign-flip tests over {_counted(len(self.seeds), 'seed')}: the smallest p that "
            f"can be reached is {smallest:.2g} for one pair, "
            f"{min(1.0, most * smallest):.2g} after Holm's "
            f"correction over {_counted(most, 'pair')}."
        )
        if most * smallest > LEVEL:
            said += (
                f" No difference can be significant at {LEVEL:g}, whatever its size; that takes at "
                f"least {seeds_needed(most)} seeds. Read no ranking from this table."
            )
        return said

    def records(self) -> list[dict[str, object]]:
        """One row for each method, seed, request, set and variant, with all settings.

        ``set`` is ``held-out`` or ``forget rows`` of a request, or ``retained``; a cell that failed
        or was not run has one row without a value.
        """
        return [
            record
            for name, chosen, parameters in self._named()
            for seed in self.seeds
            for variant in VARIANTS
            if not (name in (ORIGINAL, ORACLE) and variant == MATCHED)
            for record in self._of_cell(name, seed, variant, chosen, parameters)
        ]

    def _named(self) -> list[tuple[str, str, str]]:
        references = [ORIGINAL, *([ORACLE] if self.has_oracle else [])]
        return [
            *((name, "", "{}") for name in references),
            *((c.name, c.chosen, json.dumps(c.parameters())) for c in self.contenders),
        ]

    def _of_cell(
        self, name: str, seed: int, variant: Variant, chosen: str, parameters: str
    ) -> list[dict[str, object]]:
        cell, outcome = self.cells[name, seed], self.outcome(name, seed, variant)
        oracle = self.scores(ORACLE, seed)
        shared: dict[str, object] = {
            "method": name,
            "parameters": parameters,
            "chosen": chosen,
            "variant": variant,
            "seed": seed,
            "factor": None if outcome is None else outcome.factor,
            "average_gap": self.gap(name, seed, variant),
            "seconds": cell.seconds,
            "peak_mib": _mebibytes(cell.peak_bytes),
            "rows_touched": sum(cell.touched.values()),
            "failed": cell.reason(variant) or "",
            "metric": self.metric.name,
            "direction": self.metric.direction,
            "chance": self.chance,
            "base": cell.base,
            "model": "" if outcome is None else outcome.model,
            **self.facts,
        }
        if outcome is None:
            return [{**shared, "request": "", "set": "", "value": None, "oracle": None}]
        mine = _by_set(outcome.scores, self.requests)
        its = {} if oracle is None else _by_set(oracle, self.requests)
        return [
            {
                **shared,
                "request": request,
                "set": kind,
                "value": v,
                "oracle": its.get((request, kind)),
            }
            for (request, kind), v in mine.items()
        ]


def _by_set(scores: Scores, requests: Sequence[str]) -> dict[tuple[str, str], float | None]:
    """Every score by request and set; None where a request has no held-out row."""
    held_out = {
        (r, "held-out"): None if math.isnan(s) else s
        for r, s in zip(requests, scores.held_out, strict=True)
    }
    own = {(r, "forget rows"): s for r, s in zip(requests, scores.forget_rows, strict=True)}
    return {**held_out, **own, ("", "retained"): scores.retained}


def _heading(request: str) -> str:
    """The heading of a request's column, which no other column has."""
    return f"request {request}" if request in OTHERS else request


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _mean(values: Sequence[float]) -> float:
    """Over what is there; NaN where nothing is."""
    found = [v for v in values if not math.isnan(v)]
    return fmean(found) if found else math.nan


def _mebibytes(count: int | None) -> float | None:
    return None if count is None else count / 2**20
