"""Detector: how much a text is like those of one request, and how strongly its adapter is to act.

Gao, Wang et al. (2025). On Large Language Model Continual Unlearning. A text is known by
the states that the language model's own lower layers make of its prompt, with an adapter of the
detector beside them. In every layer two numbers say how near it is: the Mahalanobis distance to all
texts of the request, and the cosine to the nearest of them. A one-class support vector machine
makes one number of all layers, and two Gaussians say how usual that number is.

The states were made from the forgotten rows, and are personal data where these are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.changes.adapter import LowRank
from expunge.changes.branches import Branch, branched
from expunge.changes.weights import is_finite
from expunge.errors import IntegrityError
from expunge.models.states import layer_means

ORIGIN = 3.0
"""Where the origin lies that the support vector machine keeps the texts away from: so many standard
deviations below their mean, in every layer. At their mean a linear one would have no direction."""

STEEPNESS, SHIFT = 10.0, 2.0
"""The card of the soft weight: sigmoid(10 u - 2)."""

FIELDS = ("states", "mean", "basis", "variances", "residual", "location", "scale", "direction")
"""The tensors of a detector beside those of its adapter."""


@dataclass(frozen=True, eq=False)
class Layered:
    """The texts of a request in each of S layers of width D.

    Args:
        states: (n, S, D) float32 the texts that the detector was fitted to.
        mean: (S, D) their means.
        basis: (S, k, D) orthonormal directions in which they vary.
        variances: (S, k) shrunk variances along these.
        residual: (S,) shrunk variance in every other direction.
    """

    states: Tensor
    mean: Tensor
    basis: Tensor
    variances: Tensor
    residual: Tensor

    def nearness(self, states: Tensor, *, own: bool = False) -> Tensor:
        """Minus half the squared Mahalanobis distance, and the cosine to the nearest text.

        Args:
            states: (B, S, D).
            own: they are the detector's own texts in their order, and none is compared with itself.

        Returns:
            (B, S, 2) float32.
        """
        here = states.device
        centred = states - self.mean.to(here)
        along = torch.einsum("bsd,skd->bsk", centred, self.basis.to(here))
        rest = (centred.square().sum(2) - along.square().sum(2)).clamp_min(0)
        distance = (along.square() / self.variances.to(here)).sum(2) + rest / self.residual.to(here)
        cosines = torch.einsum(
            "bsd,nsd->bsn", F.normalize(states, dim=2), F.normalize(self.states.to(here), dim=2)
        )
        if own:
            cosines = cosines.masked_fill(torch.eye(len(states)).bool().unsqueeze(1), -1.0)
        return torch.stack([-0.5 * distance, cosines.amax(2)], 2)


@dataclass(frozen=True)
class Usual:
    """How usual a score is among the texts of the request.

    Args:
        fitted: mean score of the texts that the detector was fitted to.
        held_out: mean score of those that were held out.
        spread: standard deviation of the scores of those held out.
        full: usualness from which the adapter acts fully; half of it is needed to act at all.
    """

    fitted: float
    held_out: float
    spread: float
    full: float = 0.0

    def usualness(self, scores: Tensor) -> Tensor:
        """1 at the centre of the two Gaussians, towards 0 far from it on either side: (B,)."""
        mirrored = self._below(self.fitted + self.held_out - scores)
        below = self._below(scores)
        return 1 - (below - mirrored).abs()

    def _below(self, scores: Tensor) -> Tensor:
        """The distribution function of the two Gaussians, weighted alike."""
        both = torch.stack([(scores - m) / self.spread for m in (self.fitted, self.held_out)])
        shares: Tensor = torch.special.ndtr(both)
        return shares.mean(0)

    def weights(self, usualness: Tensor) -> Tensor:
        """The weight (B,) of the adapter: 1, the soft weight of the paper, or 0."""
        soft = torch.sigmoid(STEEPNESS * usualness - SHIFT)
        weights = torch.where(usualness >= self.full, torch.ones_like(soft), soft)
        return torch.where(usualness >= self.full / 2, weights, torch.zeros_like(soft))


@dataclass(frozen=True, eq=False)
class Reader:
    """What makes states of texts.

    Args:
        layers: names of the layers whose states are read, in forward order.
        prompt_end: the tokens that end a prompt; nothing after them is read, so that a text is
            judged alike with and without an answer. Empty where no tokens end them all.
        adapter: what acts beside the model while it reads; None for the model as it is.
    """

    layers: tuple[str, ...]
    prompt_end: tuple[int, ...] = ()
    adapter: LowRank | None = None

    def states(self, model: nn.Module, ids: Tensor, attention: Tensor | None = None) -> Tensor:
        """The mean states (B, S, D) of the prompts of texts (B, L)."""
        branches = [] if self.adapter is None else [Branch(self.adapter)]
        with branched(model, branches):
            counted = prompts(ids, self.prompt_end, attention)
            return layer_means(model, self.layers, ids, counted, attention)


@dataclass(frozen=True, eq=False)
class Detector:
    """Says of texts how like those of one request they are.

    Args:
        reader: makes states of texts.
        layered: the texts of the request.
        location: (S, 2) means of the two kinds of nearness.
        scale: (S, 2) standard deviations of these.
        direction: (S,) of the support vector machine.
        offset: of the support vector machine.
        usual: how usual its scores are.

    Raises:
        IntegrityError: the tensors do not fit one another, or are not finite.
    """

    reader: Reader
    layered: Layered
    location: Tensor
    scale: Tensor
    direction: Tensor
    offset: float
    usual: Usual

    def __post_init__(self) -> None:
        found = self.tensors()
        count, width = len(self.reader.layers), found["mean"].shape[-1]
        rows, rank = found["states"].shape[0], found["basis"].shape[1]
        expected = {
            "states": (rows, count, width),
            "mean": (count, width),
            "basis": (count, rank, width),
            "variances": (count, rank),
            "residual": (count,),
            "location": (count, 2),
            "scale": (count, 2),
            "direction": (count,),
        }
        wrong = [n for n in FIELDS if tuple(found[n].shape) != expected[n]]
        wrong += [n for n in FIELDS if not is_finite(found[n])]
        if wrong or not count or self.usual.spread <= 0:
            raise IntegrityError(
                f"A detector over {count} layers of width {width} was given "
                f"{', '.join(wrong) or 'no layer, or no spread of its scores'} that cannot be; "
                "make it again."
            )

    def scores(self, states: Tensor, *, own: bool = False) -> Tensor:
        """How like the texts of the request these are, (B,): the higher, the more.

        Args:
            states: (B, S, D) as the reader makes them.
            own: see :meth:`Layered.nearness`.
        """
        near = self.layered.nearness(states, own=own)
        return standardised(near, self.location, self.scale) @ self.direction.to(near) + self.offset

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by the names of :data:`FIELDS`."""
        owners = (self.layered, self)
        return {n: next(getattr(o, n) for o in owners if hasattr(o, n)) for n in FIELDS}

    def facts(self) -> dict[str, object]:
        """Everything else but its adapter, as JSON values."""
        return {
            "layers": list(self.reader.layers),
            "prompt end": list(self.reader.prompt_end),
            "offset": self.offset,
            "usual": vars(self.usual),
        }

    @classmethod
    def of(
        cls, adapter: LowRank | None, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> Self:
        """A detector from :meth:`tensors`, :meth:`facts` and its adapter."""
        names = ("states", "mean", "basis", "variances", "residual")
        layers, end = tuple(map(str, facts["layers"])), tuple(map(int, facts["prompt end"]))
        return cls(
            Reader(layers, end, adapter),
            Layered(*(tensors[n] for n in names)),
            tensors["location"],
            tensors["scale"],
            tensors["direction"],
            float(facts["offset"]),
            Usual(**{name: float(value) for name, value in facts["usual"].items()}),
        )


def standardised(near: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """Nearness (B, S) in each layer, in standard deviations above the origin, from its two kinds
    (B, S, 2)."""
    return ((near - location.to(near)) / scale.to(near)).sum(2) / 2 + ORIGIN


def prompts(ids: Tensor, end: Sequence[int], attention: Tensor | None = None) -> Tensor:
    """Which tokens (B, L) are of the prompt: those up to where the tokens ``end`` stand first, and
    all of them in a row where they do not stand."""
    seen = torch.ones_like(ids, dtype=torch.bool) if attention is None else attention.bool()
    if not end or ids.shape[1] < len(end):
        return seen
    windows = ids.unfold(1, len(end), 1)
    ends = (windows == torch.tensor(end, device=ids.device)).all(2)
    last = ends.int().argmax(1) + len(end) - 1
    last = torch.where(ends.any(1), last, ids.shape[1] - 1)
    return seen & (torch.arange(ids.shape[1], device=ids.device) <= last.unsqueeze(1))
