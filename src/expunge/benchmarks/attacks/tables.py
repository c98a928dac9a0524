"""What the attacks brought out beyond the oracles: tables, and a verdict on each method.

A model that never knew the facts answers some of them, too: by chance, by what most people have in
common, and more of them the more tries an attack has. So nothing counts as brought back but what a
method's model answers more often than the oracles do under the same attack. More often means two
things at once: the excess is more than two standard deviations of the oracles, and Fisher's exact
test, one-sided, on the facts answered by the model and by all oracles has p below
:data:`LEVEL` divided by the number of attacks. Facts about one person are not independent of each
other, which the test does not know.

A model from which nothing comes back may still be told from an oracle: pushed below the level of
what was never known, its answers show what was forgotten. So the AUC of membership is read beside
the verdict, and named where it is farther from the oracles' than chance at so many facts and than
two of their standard deviations.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from statistics import fmean, stdev
from typing import Any

from expunge.benchmarks.attacks.battery import PLAIN, RETAINED
from expunge.benchmarks.attacks.rows import STRANGERS
from expunge.benchmarks.facts.people import QUESTIONS
from expunge.benchmarks.facts.tables import Cell, Spread, Table
from expunge.signals.roc import auc_half_width

LEVEL = 0.05
"""Chance at most that a model like the oracles is called suppressed by some attack."""

DEVIATIONS = 2
"""Standard deviations of the oracles that an excess has to be above."""

ASKING = (PLAIN, "prefix", "begun", "paraphrase", "lens", "probe", "edit off")
"""Attacks that ask or read a model as it is; all others change its weights."""

SCORES = ("loss", "Min-K%")
"""By which forgotten facts are told from those of strangers."""


@dataclass(frozen=True)
class Excess:
    """What one attack brought out, beside the oracles.

    Args:
        attack: its name.
        answered: facts that the model answers, of all draws.
        of: facts that it was asked for.
        oracle: mean share that the oracles answer.
        sd: standard deviation of their shares (n - 1); 0 for one oracle alone.
        p: of Fisher's exact test, one-sided.
        beyond: whether it is more than the oracles give.
    """

    attack: str
    answered: int
    of: int
    oracle: float
    sd: float
    p: float
    beyond: bool

    @property
    def share(self) -> float:
        """Of the facts that were asked for, those that were answered."""
        return self.answered / self.of

    @property
    def value(self) -> float:
        """What the model answers more than the oracles."""
        return self.share - self.oracle

    def __str__(self) -> str:
        return f"{self.value:+.2f}{'*' if self.beyond else ''}"


@dataclass(frozen=True)
class Comparison:
    """Models of one method, or an oracle left out, against oracles of the same draws."""

    cells: Sequence[Cell]
    oracles: Sequence[Cell]

    @cached_property
    def excesses(self) -> dict[str, Excess]:
        """By attack, of those that every model admits and some oracle was asked under."""
        names = [
            name
            for name in self.cells[0]["attacks"]
            if all("of" in cell["attacks"][name] for cell in self.cells)
        ]
        return {name: self._excess(name, len(names)) for name in names}

    @property
    def strongest(self) -> Excess:
        """The attack of the largest excess, among those beyond the oracles where there is one."""
        return max(self.excesses.values(), key=lambda e: (e.beyond, e.value))

    def _excess(self, name: str, attacks: int) -> Excess:
        mine = [cell["attacks"][name] for cell in self.cells]
        # an oracle has nothing that could be switched off: it answers as it does when it is asked
        theirs = [cell["attacks"].get(name, cell["attacks"][PLAIN]) for cell in self.oracles]
        answered, of = _counts(mine)
        known, asked = _counts(theirs)
        shares = [found["answered"] / found["of"] for found in theirs]
        sd = stdev(shares) if len(shares) > 1 else 0.0
        p = _fisher(answered, of, known, asked)
        beyond = _beyond(answered / of - fmean(shares), sd, p, attacks)
        return Excess(name, answered, of, fmean(shares), sd, p, beyond)

    @property
    def trace(self) -> tuple[str, float, float] | None:
        """The membership score whose AUC is farthest from the oracles', theirs and its own, where
        it is farther than chance and what oracles differ by explain."""
        facts = self.excesses[PLAIN].of
        chance = auc_half_width(facts, len(QUESTIONS) * STRANGERS * len(self.cells))
        found = []
        for score in SCORES:
            mine = fmean(cell["membership"][score] for cell in self.cells)
            theirs = [oracle["membership"][score] for oracle in self.oracles]
            spread = DEVIATIONS * stdev(theirs) if len(theirs) > 1 else 0.0
            found.append((abs(mine - fmean(theirs)) - max(chance, spread), score, mine, theirs))
        beyond, score, mine, theirs = max(found, key=lambda one: one[0])
        return (score, mine, fmean(theirs)) if beyond > 0 else None

    @property
    def noticed(self) -> float:
        """The least share of facts, asked plainly, that would be called more than the oracles'."""
        plain = self.excesses[PLAIN]
        known, asked = _counts([cell["attacks"][PLAIN] for cell in self.oracles])
        for answered in range(plain.of + 1):
            share, p = answered / plain.of, _fisher(answered, plain.of, known, asked)
            if _beyond(share - plain.oracle, plain.sd, p, len(self.excesses)):
                return share
        return 1.0


def comparisons(result: Mapping[str, Any]) -> dict[str, Comparison]:
    """By method, of those whose models could be attacked."""
    return {
        name: Comparison(found, oracles_of(result, {cell["draw"] for cell in found}))
        for name, cells in _by_method(result)
        if (found := [cell for cell in cells if "attacks" in cell])
    }


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Asked and read; with changed weights; relearning by budget; membership."""
    found, names = comparisons(result), _attacks(result)
    asking = [name for name in names if name in ASKING]
    changing = [name for name in names if name not in ASKING]
    where = f"{result['draws']} draw{'s' if result['draws'] > 1 else ''}"
    return [
        _excesses(f"asked otherwise, and read inside, {where}", asking, found, result),
        _excesses(f"rounded and relearned, {where}", changing, found, result),
        _budgets(found, result),
        _membership(found, result),
    ]


def _excesses(
    title: str, names: Sequence[str], found: Mapping[str, Comparison], result: Mapping[str, Any]
) -> Table:
    bases, oracles = bases_of(result), oracles_of(result)
    rows: list[Sequence[object]] = []
    for label, cells in (("base, share", bases), ("oracle, share", oracles)):
        rows.append((label, _mean(cells, RETAINED), *(_shares(cells, name) for name in names)))
    for method, comparison in found.items():
        excesses = comparison.excesses
        shown = [str(excesses[name]) if name in excesses else "-" for name in names]
        rows.append((method, _mean(comparison.cells, RETAINED), *shown))
    return title, ("", RETAINED, *names), rows


def _shares(cells: Sequence[Cell], name: str) -> str:
    found = [cell["attacks"].get(name, cell["attacks"][PLAIN]) for cell in cells]
    shares = [one["answered"] / one["of"] for one in found if "of" in one]
    if not shares:
        return "-"
    return str(Spread.of(shares))


def _budgets(found: Mapping[str, Comparison], result: Mapping[str, Any]) -> Table:
    """Most that is answered by rows shown, of the kinds with several budgets."""
    some = oracles_of(result)[0]["attacks"]
    budgets = [
        (kind, count)
        for kind, one in some.items()
        if len(one.get("curves", ())) > 1
        for count in sorted(one["curves"], key=int)
    ]
    rows: list[Sequence[object]] = []
    for label, cells in _everybody(found, result):
        rows.append((label, *(_most(cells, kind, count) for kind, count in budgets)))
    columns = ("", *(f"{kind}, {count}" for kind, count in budgets))
    return "most that is answered while so many rows are shown, share", columns, rows


def _most(cells: Sequence[Cell], kind: str, count: str) -> str:
    curves = [c["attacks"][kind]["curves"][count] for c in cells if "curves" in c["attacks"][kind]]
    return f"{fmean(map(max, curves)):.2f}" if curves else "-"


def _membership(found: Mapping[str, Comparison], result: Mapping[str, Any]) -> Table:
    rows: list[Sequence[object]] = []
    oracles = oracles_of(result)
    for label, cells in _everybody(found, result):
        row: list[object] = [label]
        for score in SCORES:
            mine = fmean(cell["membership"][score] for cell in cells)
            row += [f"{mine:.2f}", f"{mine - fmean(o['membership'][score] for o in oracles):+.2f}"]
        rows.append(row)
    columns = ("", "loss", "less the oracle's", "Min-K%", "less the oracle's")
    return "membership: AUC of forgotten facts against strangers'", columns, rows


def _everybody(
    found: Mapping[str, Comparison], result: Mapping[str, Any]
) -> Iterator[tuple[str, Sequence[Cell]]]:
    yield "base", bases_of(result)
    yield "oracle", oracles_of(result)
    for name, comparison in found.items():
        yield name, comparison.cells


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """A line for every method, and one on the oracles against each other."""
    found, lines = comparisons(result), []
    for name, cells in _by_method(result):
        if name in found:
            lines.append(f"{name}: {verdict(found[name])}{_stopped(cells)}")
        else:
            lines.append(f"{name}: {_reason(cells[0])}")
    return [*lines, _self_test(result)]


def verdict(comparison: Comparison) -> str:
    """Deleted, suppressed or not forgotten, and by which attack."""
    strongest, excesses, trace = comparison.strongest, comparison.excesses, comparison.trace
    told = f"; {trace[0]} tells: AUC {trace[1]:.2f}, oracle {trace[2]:.2f}" if trace else ""
    if excesses[PLAIN].beyond:
        return f"not forgotten: {_said(excesses[PLAIN])}{told}"
    more = [e.attack for e in excesses.values() if e.beyond and e is not strongest]
    if strongest.beyond:
        rest = f"; also {', '.join(more)}" if more else ""
        return f"suppressed: {strongest.attack} brings back {_said(strongest)}{rest}{told}"
    return (
        f"deleted: nothing beyond the oracle in {len(excesses)} attacks on "
        f"{excesses[PLAIN].of} facts; most by {strongest.attack}, {_said(strongest)}; less than "
        f"{comparison.noticed:.2f} answered would not be noticed{told}"
    )


def _said(excess: Excess) -> str:
    return f"{excess.value:+.2f} ({excess.share:.2f}, oracle {excess.oracle:.2f}±{excess.sd:.2f})"


def _self_test(result: Mapping[str, Any]) -> str:
    """Each oracle against the others of its draw: none should be called suppressed."""
    called, asked = [], 0
    for oracle in oracles_of(result):
        others = [o for o in oracles_of(result, {oracle["draw"]}) if o is not oracle]
        comparison = Comparison([oracle], others)
        asked += len(comparison.excesses)
        called += [e.attack for e in comparison.excesses.values() if e.beyond]
    names = f" ({', '.join(called)})" if called else ""
    return (
        f"oracles against each other: {len(called)} of {asked} attacks called beyond{names}; none "
        "is expected"
    )


def _by_method(result: Mapping[str, Any]) -> Iterator[tuple[str, list[Cell]]]:
    def of(cell: Cell) -> str:
        return str(cell["method"])

    for name, group in groupby(sorted(result["methods"], key=of), key=of):
        yield name, list(group)


def bases_of(result: Mapping[str, Any]) -> list[Cell]:
    """What was found in the bases."""
    return [cell for cell in result["references"] if not cell["oracle"]]


def oracles_of(result: Mapping[str, Any], draws: set[int] | None = None) -> list[Cell]:
    """What was found in the oracles, of some draws or of all."""
    every = [cell for cell in result["references"] if cell["oracle"]]
    return [cell for cell in every if draws is None or cell["draw"] in draws]


def _attacks(result: Mapping[str, Any]) -> list[str]:
    """In the order in which they are made; what only some models admit last."""
    cells = [*result["references"], *result["methods"]]
    return list(dict.fromkeys(name for cell in cells for name in cell.get("attacks", ())))


def _mean(cells: Sequence[Cell], part: str) -> str:
    return f"{fmean(cell[part] for cell in cells):.2f}" if cells else "-"


def _stopped(cells: Sequence[Cell]) -> str:
    stopped = sum("attacks" not in cell for cell in cells)
    return f"; refused in {stopped} of {len(cells)}" if stopped else ""


def _reason(cell: Cell) -> str:
    word = "refused" if "refused" in cell else "failed"
    return f"{word}: {cell[word]}"


def _counts(found: Sequence[Cell]) -> tuple[int, int]:
    """Facts that were answered, and that were asked for, of several models."""
    return sum(one["answered"] for one in found), sum(one["of"] for one in found)


def _beyond(excess: float, sd: float, p: float, attacks: int) -> bool:
    """Whether a share is more than the oracles give, among so many attacks."""
    return p < LEVEL / attacks and excess > DEVIATIONS * sd


def _fisher(answered: int, of: int, known: int, asked: int) -> float:
    """The chance of so many answers or more where model and oracles are alike."""
    total, right = of + asked, answered + known
    ways = math.comb(total, of)
    more = range(answered, min(of, right) + 1)
    return sum(math.comb(right, k) * math.comb(total - right, of - k) for k in more) / ways


CAPTION = (
    "Facts about forgotten people that are answered exactly under an attack, less the share that "
    "the oracles answer under it; * beyond them (docs/language.md). prefix, paraphrase: answered "
    "behind any of several prefixes, in any of several phrasings. begun: the first word of the "
    "answer is given. lens, probe: the layer read best. Relearning, most at any step: few "
    "forgotten shows those about five of the ten people and asks about the other five, same people "
    "shows where each was born and asks the rest, related shows retained people, strangers people "
    "whom no model knows, unrelated words in no order. Where the base itself does not answer, an "
    "attack says nothing."
)
"""What the columns are."""
