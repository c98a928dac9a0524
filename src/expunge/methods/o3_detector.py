"""The detectors of O3: fitted to the rows of one request alone, calibrated on rows held out of it.

Gao, Wang et al. (2025). On Large Language Model Continual Unlearning; what a detector does with a
text is in changes/detector.py. The paper's encoder is a masked language model beside the one that
is unlearned (RoBERTa-large, of which the first 13 of 25 hidden states are scored). Here, our
reading, it is the lower half of the language model itself, frozen, with factors of its own: nothing
further has to be shipped or run, and every model that can be unlearned can be guarded.

Their released code adds minus 1000 times the cosine to minus half the Mahalanobis distance, and its
thresholds were chosen on the data of its figures. Here the cosine is added, both are standardised,
covariances are shrunk (Ledoit, Wolf 2004), and the threshold is a quantile of the rows held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from sklearn.covariance import ledoit_wolf
from sklearn.svm import OneClassSVM
from torch import Tensor, nn

from expunge.changes.adapter import LowRank
from expunge.changes.detector import Detector, Layered, Reader, Usual, standardised
from expunge.data.encoding import prompt_tokens
from expunge.data.samples import Samples, batches
from expunge.descent.contrast_terms import ContrastiveEntropy, readable
from expunge.descent.factors import Shape, linear_layers
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW, Linear
from expunge.descent.player import Player
from expunge.errors import ExpungeError
from expunge.methods.low_rank import descended
from expunge.models.modes import evaluating
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run, on_device

AT_ONCE = 64
"""Rows that are read at a time."""

LONGEST = 4
"""Tokens at most of what ends a prompt."""

FEWEST = 10
"""Rows that a request needs: eight to fit a detector to, and two to calibrate it on."""

LEAST = 1e-6
"""Smallest spread and smallest share of shrinkage, so that nothing is divided by zero."""


@dataclass(frozen=True)
class Fitting:
    """How detectors are fitted.

    Args:
        layers: share of the layers that are read, from the lowest.
        held_out: share of the rows that calibrate.
        missed: share of those that may fall below the usualness at which an adapter acts fully; of
            the others none does.
        outliers: of the support vector machine, the share of rows that may lie outside (nu).
        shape: of the factors of the reader.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW, decoupled.
        epochs: passes over the rows it is fitted to; 0 leaves the model's own states.
        batch_size: rows that are contrasted with one another.
        warm_up: share of the steps over which the rate rises.
        masked: share of the tokens that are replaced in the masked view.
    """

    layers: float = 0.5
    held_out: float = 0.2
    missed: float = 0.05
    outliers: float = 0.1
    shape: Shape = field(default_factory=lambda: Shape(8, 32.0))
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    epochs: int = 2
    batch_size: int = 8
    warm_up: float = 0.06
    masked: float = 0.15

    def fitted(self, problem: Problem, run: Run) -> Detector:
        """The detector of a request.

        Args:
            problem: its forget set is all that is read; its model is bare.
            run: device and random numbers.

        Raises:
            ExpungeError: the request has fewer than :data:`FEWEST` rows, or too short ones.
        """
        forget = problem.data[Role.FORGET]
        if len(forget) < FEWEST:
            raise ExpungeError(
                f"The request has {len(forget)} rows, and a detector of its texts needs "
                f"{FEWEST} at least: some to fit it to, and others to calibrate it on. Give more "
                "rows (paraphrases of the same facts are rows too), or take another method."
            )
        order = torch.randperm(len(forget), generator=run.generator("detector/rows"))
        count = max(2, round(self.held_out * len(forget)))
        fit, held_out = (
            forget.select(part.sort().values) for part in (order[count:], order[:count])
        )
        reader = Reader(self._layers(problem), prompt_end(forget))
        if self.epochs:
            reader = replace(reader, adapter=self._trained(reader, problem, fit, run))
        states = [_states(reader, problem.model, part, run) for part in (fit, held_out)]
        return self._calibrated(reader, *states)

    def _layers(self, problem: Problem) -> tuple[str, ...]:
        taps = list(problem.family.anatomy(problem.model).taps.values())
        return tuple(taps[: max(1, round(self.layers * len(taps)))])

    def _trained(self, reader: Reader, problem: Problem, fit: Samples, run: Run) -> LowRank:
        """The factors beside the layers that are read."""
        inside = tuple(
            name
            for name in linear_layers(problem.model)
            if any(name.startswith(f"{layer}.") for layer in reader.layers)
        )
        term = ContrastiveEntropy(reader.layers, reader.prompt_end, self.masked)
        rate = AdamW(
            self.learning_rate, weight_decay=self.weight_decay, schedule=Linear(self.warm_up)
        )
        descent = Descent(
            Player(forget=term, optimiser=rate),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
        )
        shown, shape = (
            replace(problem, data={Role.FORGET: fit}),
            replace(self.shape, targets=inside),
        )
        return descended(descent, shown, run, shape, name="detector")

    def _calibrated(self, reader: Reader, fit: Tensor, held_out: Tensor) -> Detector:
        """The detector with its standards, its direction, and what is usual."""
        layered = _layered(fit)
        near = layered.nearness(fit, own=True)
        location, scale = near.mean(0), near.std(0).clamp_min(LEAST)
        machine = OneClassSVM(kernel="linear", nu=self.outliers)
        machine.fit(standardised(near, location, scale).double().numpy())
        direction = torch.tensor(machine.coef_[0], dtype=torch.float32)
        offset = float(machine.intercept_[0])
        unknown = Usual(0.0, 0.0, 1.0)
        found = Detector(reader, layered, location, scale, direction, offset, unknown)
        own, others = found.scores(fit), found.scores(held_out)
        spread = max(float(others.std()), LEAST)
        usual = Usual(float(own.mean()), float(others.mean()), spread)
        # what the request names is to be caught; of what is like it, most
        named, like = usual.usualness(own), usual.usualness(others)
        full = float(torch.minimum(named.min(), like.quantile(self.missed)))
        return replace(found, usual=replace(usual, full=full))


def _states(reader: Reader, model: nn.Module, samples: Samples, run: Run) -> Tensor:
    """The states (n, S, D) of all rows, on the CPU."""
    run.meter.touch(Role.FORGET.value, len(samples))
    with evaluating(on_device(model, run)) as asked, torch.no_grad():
        found = [
            reader.states(asked, readable(batch).to(run.device)).cpu()
            for batch in batches(samples, AT_ONCE)
        ]
    return torch.cat(found)


def _layered(states: Tensor) -> Layered:
    """Mean and shrunk covariance of states (n, S, D) in each layer, by its directions."""
    mean, found = states.mean(0), []
    for layer in (states - mean).double().unbind(1):
        _, shrinkage = ledoit_wolf(layer.numpy(), assume_centered=True)
        share = max(float(shrinkage), LEAST)
        level = share * float(layer.square().mean()) + LEAST
        _, sizes, basis = torch.linalg.svd(layer, full_matrices=False)
        variances = (1 - share) * sizes.square() / len(layer) + level
        found.append((basis, variances, torch.tensor(level)))
    stacked = [torch.stack(part).float() for part in zip(*found, strict=True)]
    return Layered(states, mean, *stacked)


def prompt_end(samples: Samples) -> tuple[int, ...]:
    """The fewest tokens that end the prompt of every row, and stand nowhere before that in any;
    none where there are no such tokens, :data:`LONGEST` at most."""
    prompts: list[list[int]] = []
    for batch in batches(samples, AT_ONCE):
        prompts += [one.tolist() for one in prompt_tokens(batch["input_ids"], batch["labels"])]
    for length in range(1, LONGEST + 1):
        ends = {tuple(prompt[-length:]) for prompt in prompts}
        (end, *others) = ends
        if others or len(end) < length:
            return ()
        if all(_first(prompt, end) == len(prompt) - length for prompt in prompts):
            return end
    return ()


def _first(tokens: Sequence[int], end: tuple[int, ...]) -> int:
    """Where ``end`` stands first in the tokens, which it ends."""
    return next(i for i in range(len(tokens)) if tuple(tokens[i : i + len(end)]) == end)
