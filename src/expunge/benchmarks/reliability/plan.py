"""The plan of a run of kills: rounds of requests, revocations and seals, drawn from one seed."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from expunge.benchmarks.reliability import toy
from expunge.ledger import Scope, Submission

ROUNDS = 5
"""Of a pair of models; then it is sealed, and the next pair is registered: folding and measuring a
history costs the more the longer it is, and this is about kills."""
PER_ROUND = 2

SHARES = (6, 2, 1)
"""How often each of the methods is asked for."""


@dataclass(frozen=True)
class Ask:
    """One request.

    Args:
        column: of the training table.
        values: whose rows.
        method: name of one of :data:`toy.METHODS`.
        key: for idempotency.
    """

    column: str
    values: tuple[str, ...]
    method: str
    key: str | None

    def submission(self) -> Submission:
        """As the ledger takes it."""
        scope = Scope("request", self.column, self.values)
        return Submission(scope, self.method, toy.METHODS[self.method], key=self.key)


@dataclass(frozen=True)
class Round:
    """What is queued at once for one model.

    Args:
        asks: requests.
        revoked: which of the published requests is revoked first, as a share of their number.
        seal: whether the history is sealed first.
    """

    asks: tuple[Ask, ...] = ()
    revoked: float | None = None
    seal: bool = False


@dataclass
class Plan:
    """Draws rounds; those that were drawn are kept for the calm ledger.

    Args:
        seed: of all draws.
        ids: of the training rows.
        drawn: every round with its model, in order.
        models: policies by model, so far.
    """

    seed: int
    ids: Sequence[str]
    drawn: list[tuple[str, Round]] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)

    def generations(self) -> Iterator[tuple[dict[str, str], Iterator[list[tuple[str, Round]]]]]:
        """Pairs of models with their policies, and the rounds of each pair, for ever."""
        draw = random.Random(f"rounds {self.seed}")
        number = 0
        while True:
            models = {f"{policy}-{number}": policy for policy in toy.PAIR}
            self.models |= models
            yield models, self._rounds(draw, models)
            number += 1

    def _rounds(
        self, draw: random.Random, models: Mapping[str, str]
    ) -> Iterator[list[tuple[str, Round]]]:
        for number in range(ROUNDS):
            found = []
            for model in models:
                asks = tuple(self._ask(draw, f"{model}-{number}-{i}") for i in range(PER_ROUND))
                revoked = draw.random() if draw.random() < 0.4 else None
                found.append((model, Round(asks, revoked)))
            self.drawn += found
            yield found

    def seals(self, models: Mapping[str, str]) -> list[tuple[str, Round]]:
        """The last round of a pair: what was asked is sealed."""
        found = [(model, Round(seal=True)) for model in models]
        self.drawn += found
        return found

    def _ask(self, draw: random.Random, key: str) -> Ask:
        [method] = draw.choices(list(toy.METHODS), SHARES)
        kind = draw.random()
        column, values = "id", tuple(sorted(draw.sample(list(self.ids), draw.randint(1, 3))))
        if kind < 0.08:
            values = ("nobody",)
        elif kind < 0.16:
            column, values = "subject", (f"digit {draw.randrange(10)}",)
        return Ask(column, values, method, key if draw.random() < 0.2 else None)
