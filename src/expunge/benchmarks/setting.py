"""The setting of a continual benchmark: a base, its oracle, the requests, and where to measure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from expunge.aggregation.protocol import Aggregation
from expunge.audit.measure import Measured, Panel, measure
from expunge.benchmarks.shipped import Work
from expunge.deployment import Deployment
from expunge.recipe import Role
from expunge.requests import Request
from expunge.run import Run


@dataclass(frozen=True)
class Setting:
    """The base, its oracle, the requests, and the panels of both vendors."""

    base: nn.Module
    oracle: nn.Module
    work: Work
    requests: tuple[Request, ...]
    validation: Panel
    test: Panel
    run: Run

    @classmethod
    def of(
        cls,
        base: nn.Module,
        oracle: nn.Module,
        work: Work,
        requests: Sequence[Request],
        run: Run,
    ) -> "Setting":
        """The setting with its panels."""
        return cls(
            base,
            oracle,
            work,
            tuple(requests),
            Panel.of(work.validation, work.validation_table, requests),
            Panel.of(work.test, work.test_table, requests),
            run,
        )

    def scored(self, model: nn.Module, panel: Panel) -> Measured:
        """What a model scores on a panel."""
        return measure(self.work.recipe.family, model, panel, self.run)

    def deployment(self, rule: Aggregation[Any]) -> Deployment:
        """The base in use, before any request."""
        work = self.work
        return Deployment(
            self.base,
            work.recipe.family,
            work.data[Role.TRAIN],
            work.table,
            rule,
            recipe=work.recipe,
        )
