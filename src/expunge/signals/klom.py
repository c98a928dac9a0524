"""KLoM: how far the margins of N unlearned models are from those of N oracles, sample by sample.

Georgiev, Rinberg, Park, Garg, Ilyas, Madry, Neel (2024). Attribute-to-Delete: Machine Unlearning
via Datamodel Matching. Its name is short for KL divergence of margins. A sample that was truly
forgotten has the margins of oracles, neither higher nor lower, over the randomness of training.

The floor is the same figure of oracles against further oracles: two finite populations are never
at 0, and the fewer models the higher it is. The released code leaves the largest margin of a
sample out of its histogram, so that models which all reach the clipping bound come out at 0, as if
they were oracles; here the last bin holds it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.matrix import Signals
from expunge.signals.metric import Metric
from expunge.signals.reading import Reading, beside

KLOM_MEAN = Metric(
    "mean KLoM",
    "lower",
    "mean over samples of KL(margins of unlearned models || of oracles), in nats, 0 to 11.5",
)
KLOM_P95 = Metric(
    "95th percentile of KLoM",
    "lower",
    "95th percentile over samples of KL(margins of unlearned models || of oracles), in nats",
)

NUMBERS_AT_ONCE = 2**21
"""Margins that are binned at a time: 16 MiB of float64, and a few times that for their bins."""


@dataclass(frozen=True)
class Binning:
    """How margins become histograms.

    Args:
        bins: equally wide, over the joint range of both populations at a sample.
        least_share: what an empty bin of the oracles counts as. It caps KLoM at
            ``log(1 / least_share)``, 11.51 nats.
        clip: largest absolute margin, in nats; also what an infinite margin becomes.
        least: fewest models a population may have. With fewer than there are bins the floor is
            more about the number of models than about the models.

    Raises:
        ExpungeError: a number has no use.
    """

    bins: int = 20
    least_share: float = 1e-5
    clip: float = 100.0
    least: int = 20

    def __post_init__(self) -> None:
        if (
            self.bins < 2
            or self.least < 2
            or not 0 < self.least_share < 1
            or not 0 < self.clip < math.inf
        ):
            raise ExpungeError(
                f"KLoM got {self}; at least 2 bins and 2 models, a share between 0 and 1 and a "
                "positive finite bound are expected."
            )


@dataclass(frozen=True, eq=False)
class Closeness:
    """KLoM of each sample of a set beside its floor, all (samples,) float64 in nats.

    Args:
        values: unlearned models against oracles.
        floor: further oracles against the same oracles.
        original: the models before unlearning against the same oracles, where they were asked.
    """

    values: Tensor
    floor: Tensor
    original: Tensor | None = None

    @property
    def mean(self) -> Reading:
        """Mean over the samples, with that of the floor in the oracle's place."""
        before = None if self.original is None else self.original.mean()
        return beside(KLOM_MEAN, self.values.mean(), [float(self.floor.mean())], before)

    @property
    def p95(self) -> Reading:
        """95th percentile over the samples, with that of the floor in the oracle's place."""
        before = None if self.original is None else _p95(self.original)
        return beside(KLOM_P95, _p95(self.values), [_p95(self.floor)], before)


def klom(found: Signals, oracles: Signals, binning: Binning = Binning()) -> Tensor:
    """KL(margins of ``found`` || margins of ``oracles``) of each sample, (samples,) in nats.

    Args:
        found: N models on the samples, unlearned with as many seeds; they have a query "margin".
        oracles: N models on the same samples, each retrained without the forget set.
        binning: the histograms.

    Returns:
        float64 (samples,): sum over bins of ``p log(p / max(q, least_share))``. 0 for equal
        histograms; for disjoint ones ``log(1 / least_share)`` minus the entropy of that of
        ``found`` over its bins.

    Raises:
        ExpungeError: unequal or too few models, or other samples.
    """
    return binned_divergence(*paired_margins(found, oracles, binning.least), binning)


def klom_by_set(
    found: Signals,
    oracles: Signals,
    others: Signals,
    sets: Mapping[str, Iterable[str]],
    original: Signals | None = None,
    binning: Binning = Binning(),
) -> dict[str, Closeness]:
    """KLoM by set, such as forget, retain and validation, beside the floor.

    Args:
        found: N unlearned models.
        oracles: N oracles.
        others: N further oracles, none of them in ``oracles``: they make the floor. Halves of one
            population are no substitute, since half as many models raise the floor.
        sets: ids of samples by the name of the set.
        original: N models before unlearning.
        binning: the histograms.

    Raises:
        ExpungeError: as for :func:`klom`; an oracle is on both sides of the floor; an unknown id,
            or a set without samples.
    """
    if shared := sorted(set(oracles.models).intersection(others.models)):
        raise ExpungeError(
            f"The floor of KLoM got the oracle {shared[0]!r} on both sides ({len(shared)} are "
            f"shared); {len(oracles.models)} further oracles are expected. Retrain with seeds of "
            "their own."
        )
    parts = {}
    for name, wanted in sets.items():
        ids = tuple(wanted)
        if not ids:
            raise ExpungeError(
                f"KLoM got no sample for the set {name!r}; at least one is expected. Leave the set "
                "out, or check how it was selected."
            )
        references = oracles.of_samples(ids)
        values, floor = (klom(m.of_samples(ids), references, binning) for m in (found, others))
        before = None if original is None else klom(original.of_samples(ids), references, binning)
        parts[name] = Closeness(values, floor, before)
    return parts


def binned_divergence(found: Tensor, oracles: Tensor, binning: Binning = Binning()) -> Tensor:
    """:func:`klom` of margins (models, samples), without the checks; infinite ones are clipped."""
    step = max(1, NUMBERS_AT_ONCE // (len(found) + len(oracles)))
    starts = range(0, found.shape[1], step)
    both = ((side[:, start : start + step].T for side in (found, oracles)) for start in starts)
    return torch.cat([_divergence(p, q, binning) for p, q in both])


def paired_margins(found: Signals, oracles: Signals, least: int) -> tuple[Tensor, Tensor]:
    """The margins of two populations of equally many models, (models, samples) each.

    Raises:
        ExpungeError: unequal or fewer than ``least`` models, other samples, or no query "margin".
    """
    counts = len(found.models), len(oracles.models)
    if counts[0] != counts[1] or counts[0] < least:
        raise ExpungeError(
            f"Closeness to oracles got {counts[0]} models and {counts[1]} oracles; equally many, "
            f"at least {least} of each, are expected. Train {max(*counts, least) - counts[0]} more "
            f"models and {max(*counts, least) - counts[1]} more oracles, with seeds of their own."
        )
    if found.samples != oracles.samples:
        raise ExpungeError(
            f"The models, {found.models[0]!r} first, and the oracles, {oracles.models[0]!r} first, "
            f"were asked for other samples ({len(found.samples)} and {len(oracles.samples)}); the "
            "same ones in the same order are expected. Ask both for the same samples."
        )
    return found.query("margin"), oracles.query("margin")


def _divergence(found: Tensor, oracles: Tensor, binning: Binning) -> Tensor:
    """KL between the histograms of rows (samples, models)."""
    found, oracles = (side.double().clamp(-binning.clip, binning.clip) for side in (found, oracles))
    low = torch.minimum(found.amin(1), oracles.amin(1))
    high = torch.maximum(found.amax(1), oracles.amax(1))
    width = torch.where(high > low, high - low, 1.0) / binning.bins
    inner = low[:, None] + width[:, None] * torch.arange(1, binning.bins)
    p, q = (_shares(side, inner, binning.bins) for side in (found, oracles))
    return (torch.xlogy(p, p) - p * q.clamp(min=binning.least_share).log()).sum(1)


def _shares(rows: Tensor, inner: Tensor, bins: int) -> Tensor:
    """Share of each row (samples, models) in the bins between ``inner`` edges (samples, bins-1)."""
    at = torch.searchsorted(inner, rows.contiguous(), right=True)
    ones = torch.ones((), dtype=torch.float64).expand(at.shape)
    counts = torch.zeros(len(rows), bins, dtype=torch.float64).scatter_add_(1, at, ones)
    return counts / rows.shape[1]


def _p95(values: Tensor) -> float:
    return float(np.quantile(values.numpy(), 0.95))  # torch's own stops at 2^24 values
