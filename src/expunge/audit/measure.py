"""Measuring: the score of a model on every request's rows and on what nobody asked to remove.

A family is scored with one metric: accuracy where it has logits, exact answers where it answers in
tokens, the mean absolute error where it answers with numbers, the denoising loss where it draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.requests import Named, Request, Rows, Target
from expunge.run import Run
from expunge.signals.accuracy import Interval, bootstrap_interval
from expunge.signals.ask import ask, metric_of
from expunge.signals.matrix import Signals
from expunge.signals.metric import Metric


@dataclass(frozen=True)
class Panel:
    """Rows to measure on, and which of them each request means.

    ``groups`` holds the positions (n_j,) of each request, none where the request has no such row;
    ``retained`` those of no request.
    """

    samples: Samples
    names: tuple[str, ...]
    groups: tuple[Tensor, ...]
    retained: Tensor

    @classmethod
    def of(cls, samples: Samples, table: Named, requests: Sequence[Request]) -> "Panel":
        """The panel of these requests on held-out rows.

        A request for training samples has no held-out row, and one for several people may have
        some: what the table does not hold is left out. Whether a request names training rows at
        all is checked where it is resolved.

        Raises:
            ExpungeError: two requests share rows, or no row is left to retain.
        """
        groups = tuple(rows_held(request.target, table) for request in requests)
        retained = (_owners(len(samples), groups, requests, "held-out") < 0).nonzero().reshape(-1)
        if len(retained) == 0:
            raise ExpungeError(
                f"The {len(requests)} requests name all {len(samples)} held-out rows; some must "
                "be left to measure what is retained."
            )
        return cls(samples, tuple(r.name for r in requests), groups, retained)

    @classmethod
    def of_forget_rows(cls, train: Samples, table: Named, requests: Sequence[Request]) -> "Panel":
        """The panel of the training rows that these requests name, and of no others.

        For requests for samples the oracle's score here is near that on held-out rows: it is the
        level to reach, not an accuracy of zero.

        Raises:
            ExpungeError: a request names no training row, or two share rows.
        """
        named = tuple(request.target.rows(table) for request in requests)
        _owners(len(train), named, requests, "training")
        names = tuple(request.name for request in requests)
        return cls(train, names, named, torch.empty(0, dtype=torch.int64)).asked()

    def asked(self) -> "Panel":
        """The same requests on the rows that they name, and on no others."""
        lengths = [len(rows) for rows in self.groups]
        groups = torch.split(torch.arange(sum(lengths)), lengths)
        nothing = torch.empty(0, dtype=torch.int64)
        return Panel(self.samples.select(torch.cat(self.groups)), self.names, groups, nothing)

    def alone(self, number: int) -> "Panel":
        """One request on the rows that it names, and on no others."""
        return replace(self, names=(self.names[number],), groups=(self.groups[number],)).asked()


def rows_held(target: Target, table: Named) -> Tensor:
    """Positions (n,) of the rows of ``table`` that a target names; none where it holds none."""
    if not isinstance(target, Rows):
        return target.rows(table)
    nothing = torch.empty(0, dtype=torch.int64)
    if target.column not in table.column_names:
        return nothing
    held = {str(value) for value in table[target.column][:]}.intersection(target.values)
    return replace(target, values=tuple(sorted(held))).rows(table) if held else nothing


def _owners(count: int, groups: Sequence[Tensor], requests: Sequence[Request], kind: str) -> Tensor:
    """The request (count,) that each row belongs to, -1 for none."""
    owner = torch.full((count,), -1)
    for j, rows in enumerate(groups):
        shared = rows[owner[rows] >= 0]
        if len(shared):
            other = requests[int(owner[shared[0]])].name
            raise ExpungeError(
                f"The requests {other!r} and {requests[j].name!r} share {len(shared)} {kind} "
                "rows; requests that are measured apart must not overlap."
            )
        owner[rows] = j
    return owner


@dataclass(frozen=True)
class Measured:
    """What one model scored on a panel.

    ``metric`` says what the numbers are and which way is better. ``requests`` (T,) are the scores
    on each request's rows, ``retained`` is the score on everything else. ``confidence`` (T,) is the
    mean probability of the right answer on each request's rows, of models with classes, and per
    token of language models. What has no row or no such answer is NaN.
    """

    requests: Tensor
    confidence: Tensor
    retained: float
    signals: Signals
    panel: Panel
    metric: Metric

    def retained_interval(self) -> Interval:
        """95 % bootstrap interval of the retained score, over subjects."""
        kept = self.signals.of_samples([self.signals.samples[i] for i in self.panel.retained])
        return bootstrap_interval(kept.query(self.metric.query)[0], kept.subjects)


def measure(family: Family, model: nn.Module, panel: Panel, run: Run) -> Measured:
    """Ask the model for every row of the panel, once."""
    signals, metric = ask(family, model, panel.samples, run), metric_of(family)
    scores = signals.query(metric.query)[0]
    if "margin" in signals.queries:
        sure = torch.sigmoid(signals.query("margin")[0])
    else:
        sure = torch.full_like(scores, float("nan"))
    return Measured(
        torch.stack([scores[rows].mean() for rows in panel.groups]),
        torch.stack([sure[rows].mean() for rows in panel.groups]),
        float(scores[panel.retained].double().mean()),
        signals,
        panel,
        metric,
    )
