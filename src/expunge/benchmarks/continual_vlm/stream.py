"""Requests in a row to any model with classes: every rule on vectors of every kind, at equal
retained accuracy.

Strengths are found on validation rows, what is reported is of test rows. With a recipe the oracle
stands beside. Nothing is stored on the way.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expunge.attacks.relearning import Relearning
from expunge.audit.case import reason_of
from expunge.audit.measure import Measured, Panel, measure
from expunge.audit.oracle import retrained
from expunge.benchmarks.continual_vlm.measuring import (
    alone,
    cells,
    conflicts,
    followed,
    matched_factor,
    of_end,
    size_of,
)
from expunge.benchmarks.continual_vlm.work import ATTACK, POINTS
from expunge.benchmarks.continual_vlm.world import KNOWN
from expunge.changes.delta import Delta
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLogits, able
from expunge.methods.protocol import Method, unlearn
from expunge.requests import Request
from expunge.run import Run
from expunge.signals.ask import logits_of

LARGEST_BATCH = 256
"""Rows that relearning shows at once."""

Where = Mapping[str, object]
"""What tells one stream from another: ``half``, ``seed``, ``count``."""


@dataclass(frozen=True, eq=False)
class Stream:
    """A model before any request, what it will be asked, and the rows that say what came of it.

    Args:
        deployment: the model with its training rows, and its recipe where it is known.
        requests: in their order.
        validation: rows that strengths are found on.
        test: rows that are reported.
        reserve: positions (n,) of training rows that vectors may be made with as retained.
        run: seed, device, batch size.

    Raises:
        ExpungeError: the model has no classes, or a request has no held-out row or names nothing
            that the model knows.
    """

    deployment: Deployment
    requests: tuple[Request, ...]
    validation: Panel
    test: Panel
    reserve: Tensor
    run: Run

    def __post_init__(self) -> None:
        able(self.deployment.family, HasLogits)
        known = self._scored(self.deployment.base, self.validation).requests.tolist()
        for number, (name, share) in enumerate(zip(self.names, known, strict=True)):
            for panel, which in ((self.validation, "validation"), (self.test, "test")):
                if not len(panel.groups[number]):
                    raise ExpungeError(
                        f"The request {name!r} names no {which} row, so what is left of it cannot "
                        "be measured; give held-out rows of it."
                    )
            if share < KNOWN:
                raise ExpungeError(
                    f"There is nothing to forget in {name!r}: {share:.0%} of its validation rows "
                    f"are answered, and at least {KNOWN:.0%} are expected. Leave the request out."
                )

    @property
    def names(self) -> list[str]:
        """Of the requests."""
        return [request.name for request in self.requests]

    def conduct(
        self, where: Where, methods: Mapping[str, Method], rules: Sequence[str]
    ) -> dict[str, Any]:
        """Every rule on every kind of vectors; JSON values as those of
        :class:`~.protocol.Protocol`, and under ``refused`` the kinds whose preset found no fields,
        with the reason.

        Args:
            where: goes along with every row.
            methods: how the vectors of each kind are made.
            rules: registered aggregations.

        Raises:
            ExpungeError: every kind was refused.
        """
        start = time.perf_counter()
        deployment = self.deployment
        logits, _ = logits_of(deployment.family, deployment.base, self.test.samples, self.run)
        made, kept, refused = {}, {}, {}
        for kind, method in methods.items():
            try:
                made[kind], kept[kind] = self.vectors(method)
            except ExpungeError as error:
                refused[kind] = reason_of(error)
        if not made:
            raise ExpungeError(f"No vector could be made. {next(iter(refused.values()))}")
        return {
            "references": [{**where, "requests": self.names, **self._references()}],
            "conflicts": [
                {**where, "kind": kind, **conflicts([delta for delta, _ in vectors])}
                for kind, vectors in made.items()
            ],
            "rows": [
                {**where, "order": 0, "requests": self.names, "kind": kind, "rule": rule}
                | self._served(rule, vectors, kept[kind])
                for kind, vectors in made.items()
                for rule in rules
            ],
            "curves": [],
            "refused": refused,
            "chance": 1 / logits.shape[1],
            "seconds": time.perf_counter() - start,
        }

    def vectors(self, method: Method) -> tuple[list[tuple[Delta, float]], int]:
        """The vector of each request alone and the seconds of one thread it took; and the bytes of
        what was prepared for all of them.

        Raises:
            ExpungeError: a preset finds no fields.
        """
        deployment, found = self.deployment, []
        problems = [
            alone(deployment.base, deployment.family, request, deployment.train, rows, self.reserve)
            for request, rows in zip(self.requests, self._rows, strict=True)
        ]
        artifact = method.prepare(problems[0].opened(method.prepares_with), self.run)
        for problem in problems:
            start = time.process_time()
            [delta] = unlearn(method, problem, self.run, artifact).changes
            assert isinstance(delta, Delta)
            found.append((delta, time.process_time() - start))
        return found, size_of(artifact.tensors.values())

    @property
    def _rows(self) -> list[Tensor]:
        """Positions of the training rows of each request."""
        return [request.target.rows(self.deployment.table) for request in self.requests]

    def _served(
        self, name: str, vectors: Sequence[tuple[Delta, float]], prepared: int
    ) -> dict[str, Any]:
        base, found = self.deployment.base, followed(name, [delta for delta, _ in vectors])
        floor = self._scored(base, self.validation).retained - POINTS
        matched = matched_factor(
            found.changes[-1], base, floor, lambda m: self._scored(m, self.validation).retained
        )
        models = [change.applied_to(base, matched["factor"]) for change in found.changes]
        return {
            "matched": {"factor": matched["factor"], **self._answered(models)},
            "reached": {"matched": matched["reached"]},
            "seconds": found.seconds + sum(each for _, each in vectors),
            "bytes": found.bytes + prepared,
        }

    def _references(self) -> Mapping[str, Any]:
        """The base, and the oracle where the recipe is known."""
        models = {"base": self.deployment.base}
        if self.deployment.recipe is not None:
            models["oracle"] = retrained(self.deployment, self.requests, self.run)
        return {name: self._answered([model]) for name, model in models.items()}

    def _answered(self, models: Sequence[nn.Module]) -> dict[str, Any]:
        """What the models after each step answer of the requests; and what the last one answers
        otherwise, and how fast it learns what was asked for. There is no unseen set."""
        asked = self.test.asked()
        return {
            **cells([self._scored(model, asked) for model in models]),
            **of_end(self._scored(models[-1], self.test)),
            "unseen": {},
            "relearned": self._relearned(models[-1]),
        }

    def _relearned(self, model: nn.Module) -> list[float]:
        """Accuracy on the requests' test rows after 0, 1, 2 ... steps on their training rows."""
        shown = self.deployment.train.select(torch.cat(self._rows))
        asked = self.test.asked().samples
        attack = Relearning(ATTACK.steps, LARGEST_BATCH, ATTACK.optimiser)
        return list(attack.curve(model, self.deployment.family, shown, asked, self.run))

    def _scored(self, model: nn.Module, panel: Panel) -> Measured:
        return measure(self.deployment.family, model, panel, self.run)
