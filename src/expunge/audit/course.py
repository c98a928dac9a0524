"""A course of requests: every request and everything else, measured again after each step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.audit.measure import Measured, Panel, measure
from expunge.audit.persistence import PersistenceMatrix
from expunge.deployment import Deployment
from expunge.methods.protocol import Method
from expunge.requests import Request
from expunge.run import Run


@dataclass(frozen=True)
class Step:
    """One answered request: what the model scores now, and what the answer cost.

    ``seconds`` and ``touched`` (rows read for gradients, by role) are of this request alone;
    ``peak_bytes`` is the largest memory of the process so far. ``forget_rows`` is the score on the
    requests' own training rows, where these were asked for.
    """

    request: Request
    measured: Measured
    seconds: float
    peak_bytes: int
    touched: dict[str, int]
    forget_rows: Measured | None = None


@dataclass(frozen=True)
class Course:
    """The model before any request, and after each."""

    before: Measured
    steps: tuple[Step, ...]
    forget_rows_before: Measured | None = None

    def matrix(self, oracle: Measured | None = None) -> PersistenceMatrix:
        """The full persistence matrix of performance; ``oracle`` is the reference of every step."""
        return matrix_of(self.before, [step.measured for step in self.steps], oracle)

    @property
    def final(self) -> Measured:
        """After the last step."""
        return self.steps[-1].measured

    def retained(self) -> Tensor:
        """Retained score (T + 1,), before any request and after each."""
        return torch.tensor([self.before.retained, *(s.measured.retained for s in self.steps)])


def matrix_of(
    before: Measured, steps: Sequence[Measured], oracle: Measured | None = None
) -> PersistenceMatrix:
    """The full persistence matrix of what was measured on one panel before and after each step.

    The matrix holds performance, so the scores of a metric whose lower values are better enter
    with their sign turned.
    """
    sign = -1.0 if before.metric.direction == "lower" else 1.0
    return PersistenceMatrix(
        before.panel.names,
        sign * before.requests.double().numpy(),
        sign * torch.stack([step.requests for step in steps]).double().numpy(),
        None if oracle is None else sign * oracle.requests.double().numpy(),
    )


def follow(
    deployment: Deployment,
    requests: Sequence[Request],
    method: Method,
    panel: Panel,
    run: Run,
    strengths: Sequence[float] | None = None,
    forget_rows: Panel | None = None,
) -> Course:
    """Answer the requests one after another and measure the whole panel after each.

    ``strengths`` (T,) are 1 by default; ``forget_rows`` is a second panel, of the training rows
    that the requests name, see :meth:`Panel.of_forget_rows`.
    """

    def measured_on_forget_rows() -> Measured | None:
        if forget_rows is None:
            return None
        return measure(deployment.family, deployment.model, forget_rows, run)

    before = measure(deployment.family, deployment.model, panel, run)
    own_before = measured_on_forget_rows()
    steps = []
    for j, request in enumerate(requests):
        seconds, touched = run.meter.seconds, run.meter.touched.copy()
        deployment.forget(request, method, run, 1.0 if strengths is None else strengths[j])
        measured = measure(deployment.family, deployment.model, panel, run)
        steps.append(
            Step(
                request,
                measured,
                run.meter.seconds - seconds,
                run.meter.peak_bytes,
                dict(run.meter.touched - touched),
                measured_on_forget_rows(),
            )
        )
    return Course(before, tuple(steps), own_before)
