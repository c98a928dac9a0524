"""Measuring: the accuracy of a model on every request's rows and on what nobody asked to remove."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.requests import Named, Request
from expunge.run import Run
from expunge.signals.accuracy import Interval, bootstrap_interval
from expunge.signals.ask import ask
from expunge.signals.matrix import Signals


@dataclass(frozen=True)
class Panel:
    """Held-out rows, and which of them each request means.

    ``groups`` holds the positions (n_j,) of each request; ``retained`` those of no request.
    """

    samples: Samples
    names: tuple[str, ...]
    groups: tuple[Tensor, ...]
    retained: Tensor

    @classmethod
    def of(cls, samples: Samples, table: Named, requests: Sequence[Request]) -> "Panel":
        """The panel of these requests on held-out rows.

        Raises:
            ExpungeError: two requests share rows, or no row is left to retain.
        """
        groups = tuple(request.target.rows(table) for request in requests)
        owner = torch.full((len(samples),), -1)
        for j, rows in enumerate(groups):
            shared = rows[owner[rows] >= 0]
            if len(shared):
                other = requests[int(owner[shared[0]])].name
                raise ExpungeError(
                    f"The requests {other!r} and {requests[j].name!r} share {len(shared)} held-out "
                    "rows; requests that are measured apart must not overlap."
                )
            owner[rows] = j
        retained = (owner < 0).nonzero().reshape(-1)
        if len(retained) == 0:
            raise ExpungeError(
                f"The {len(requests)} requests name all {len(samples)} held-out rows; some must "
                "be left to measure what is retained."
            )
        return cls(samples, tuple(r.name for r in requests), groups, retained)


@dataclass(frozen=True)
class Measured:
    """What one model scored on a panel.

    ``requests`` (T,) are accuracies on each request's rows, ``confidence`` (T,) the mean
    probability of the right answer there; ``retained`` is the accuracy on everything else.
    """

    requests: Tensor
    confidence: Tensor
    retained: float
    signals: Signals
    panel: Panel

    def retained_interval(self) -> Interval:
        """95 % bootstrap interval of the retained accuracy, over subjects."""
        kept = self.signals.of_samples([self.signals.samples[i] for i in self.panel.retained])
        return bootstrap_interval(kept.query("correct")[0], kept.subjects)


def measure(family: Family, model: nn.Module, panel: Panel, run: Run) -> Measured:
    """Ask the model for every row of the panel, once."""
    signals = ask(family, model, panel.samples, run)
    correct = signals.query("correct")[0]
    sure = torch.sigmoid(signals.query("margin")[0])
    return Measured(
        torch.stack([correct[rows].mean() for rows in panel.groups]),
        torch.stack([sure[rows].mean() for rows in panel.groups]),
        float(correct[panel.retained].double().mean()),
        signals,
        panel,
    )
