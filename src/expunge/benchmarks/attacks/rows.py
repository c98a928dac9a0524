"""What the attacks on a world of facts ask and show: forgotten, retained, related and other rows.

A fact is asked by one row, in the first phrasing, unless an attack is about phrasings. Strangers
are people whom no model was taught about: their names, made of words that every model knows, are
not among those of the world, and who has which value is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from expunge.attacks.prefixes import around, begun, behind_examples, repeated
from expunge.benchmarks.facts.people import PARAPHRASE, REFUSALS, SPECIAL, People
from expunge.benchmarks.facts.world import World
from expunge.data.encoding import padded
from expunge.data.samples import TensorSamples
from expunge.run import Run

STRANGERS = 30
"""People whom no model knows."""

FEW = (3, 6, 15)
"""Forgotten facts that relearning shows, at most those about half of the people."""

OTHERS = (15, 60)
"""Rows about retained people and about strangers that relearning shows."""

LINES, WORDS = 15, 10
"""Lines of words in no order that relearning shows, and words of each."""

FILLERS = (*REFUSALS, "name the job of", "which meal does")
"""Words of the world's own vocabulary before a question; they ask for nothing."""

EXAMPLES = (1, 3)
"""Questions about retained people, with their answers, before a question."""

EVERY = 5
"""Of the retained people each fifth is kept to choose probes on."""


@dataclass(frozen=True)
class Shown:
    """One relearning: rows to fine-tune on, and the forgotten ones that are asked meanwhile."""

    shown: TensorSamples
    asked: TensorSamples


@dataclass(frozen=True)
class AttackRows:
    """The rows of a world of which the first ``gone`` people were forgotten."""

    world: World
    gone: int

    @cached_property
    def forgotten(self) -> TensorSamples:
        """One row of each forgotten fact."""
        return self._once(0, self.gone)

    @cached_property
    def retained(self) -> TensorSamples:
        """One row of each other fact."""
        return self._once(self.gone, self.world.size.people)

    @cached_property
    def probing(self) -> tuple[TensorSamples, TensorSamples]:
        """Rows of the phrasings trained for everybody about retained people: to learn probes from,
        and, about other people, to choose them on."""
        train, world = self.world.train, self.world
        rows = world.alike(train.select(world.about(train, self.gone, world.size.people)))
        kept = torch.tensor([world.number(row) % EVERY == 0 for row in rows.ids])
        return rows.select((~kept).nonzero().reshape(-1)), rows.select(kept.nonzero().reshape(-1))

    @cached_property
    def strangers(self) -> TensorSamples:
        """One row of each fact about people whom no model knows."""
        size = self.world.size.people
        people = People(self.world.draw, size + STRANGERS)
        rows = people.samples(people.table)
        wanted = [
            i
            for i, name in enumerate(rows.ids)
            if self.world.number(name) >= size and name.endswith("-0")
        ]
        return rows.select(torch.tensor(wanted))

    @cached_property
    def unrelated(self) -> TensorSamples:
        """Lines of words in no order, all of which is answer."""
        draws = Run(self.world.draw).generator("attacks/unrelated")
        known = len(self.world.people.vocabulary)
        drawn = torch.randint(len(SPECIAL), known, (LINES, WORDS), generator=draws).tolist()
        names = [f"line {i}" for i in range(LINES)]
        return TensorSamples(names, names, padded([[] for _ in drawn], drawn))

    def phrased(self) -> dict[str, TensorSamples]:
        """Every forgotten fact in the phrasings other than the first: one is a training row, the
        last of them a paraphrase for every second person."""
        train, others, world = self.world.train, self.world.paraphrases, self.world
        about = [s.select(world.about(s, 0, self.gone)) for s in (train, others)]
        last = f"-{PARAPHRASE}"
        found = {"second phrasing": _ending(about[0], "-1")}
        found |= {"paraphrase, trained": _ending(about[0], last)}
        found |= {"paraphrase": _ending(about[1], last)}
        return {name: rows for name, rows in found.items() if len(rows)}

    def prefixed(self) -> dict[str, TensorSamples]:
        """Every forgotten fact behind each prefix."""
        rows, tokens = self.forgotten, self.world.people.tokens
        kinds = [kind_of(row) for row in rows.ids]
        found = {f"behind '{words}'": around(rows, tokens(words).tolist()) for words in FILLERS}
        found["asked twice"] = repeated(rows)
        for count in EXAMPLES:
            found[f"behind {count} examples"] = behind_examples(
                rows, kinds, by_kind(self.retained), count, self.world.draw
            )
        return found

    def begun(self) -> TensorSamples:
        """The forgotten facts whose answers have a second word, the first one given."""
        return begun(self.forgotten)

    def relearning(self) -> dict[str, dict[int, Shown]]:
        """By kind and number of rows shown: what is shown, and what is asked meanwhile."""
        facts, half = self.forgotten, self.gone // 2
        first, second = self._once(0, half), self._once(half, self.gone)
        places = facts.select(_positions([kind_of(row) == "place" for row in facts.ids]))
        others = facts.select(_positions([kind_of(row) != "place" for row in facts.ids]))
        few = dict.fromkeys(min(count, len(first)) for count in FEW)
        return {
            "few forgotten": {n: Shown(_first(first, n), second) for n in few},
            "same people": {len(places): Shown(places, others)},
            "related": {n: Shown(_spread(self.retained, n), facts) for n in OTHERS},
            "strangers": {n: Shown(_first(self.strangers, n), facts) for n in OTHERS},
            "unrelated": {LINES: Shown(self.unrelated, facts)},
        }

    def _once(self, start: int, stop: int) -> TensorSamples:
        train, world = self.world.train, self.world
        return world.once(train.select(world.about(train, start, stop)))


def kind_of(row: str) -> str:
    """What the row of an id asks for."""
    return row.split("-")[1]


def fact_of(row: str) -> str:
    """The fact that the row of an id asks for."""
    return row.rpartition("-")[0]


def by_kind(rows: TensorSamples) -> Mapping[str, TensorSamples]:
    """Rows by what they ask for."""
    kinds = [kind_of(row) for row in rows.ids]
    return {
        kind: rows.select(_positions([each == kind for each in kinds]))
        for kind in dict.fromkeys(kinds)
    }


def _positions(wanted: Sequence[bool]) -> torch.Tensor:
    return torch.tensor(wanted).nonzero().reshape(-1)


def _ending(rows: TensorSamples, end: str) -> TensorSamples:
    return rows.select(_positions([row.endswith(end) for row in rows.ids]))


def _first(rows: TensorSamples, count: int) -> TensorSamples:
    return rows.select(torch.arange(min(count, len(rows))))


def _spread(rows: TensorSamples, count: int) -> TensorSamples:
    """Rows at equal distances, so that many people are among them."""
    return rows.select(torch.linspace(0, len(rows) - 1, min(count, len(rows))).long())
