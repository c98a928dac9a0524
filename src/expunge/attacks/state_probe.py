"""The probe: a linear map from hidden states to answers, learned on facts that are still known.

It reads forgotten answers from the states in which a model still holds them, whatever the head does
with them: a head that was edited, or a guard behind the last layer, hides nothing from it. Patil,
Hase, Bansal (2024) read states with the model's own head (:mod:`~expunge.attacks.logit_lens`);
linear probes are of Alain and Bengio (2017), Understanding Intermediate Layers Using Linear
Classifier Probes. Ridge regression on the answer tokens, in closed form; its strength is chosen on
retained rows that the map was not learned from. What it reads by chance, and from the kind of the
question alone, an oracle's states give, too.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.data.samples import Samples, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import AnswerTokens, Family, HasTaps, able
from expunge.models.modes import evaluating
from expunge.run import Run, on_device

READ_AT_ONCE = 256


@dataclass(frozen=True)
class Reading:
    """What a probe reads after one layer.

    Args:
        tap: the layer.
        strength: the ridge that reads the validation rows best.
        validation: share of them whose answer is read wholly right.
        correct: (n,) whether the answer of each row that is asked is.
    """

    tap: str
    strength: float
    validation: float
    correct: tuple[bool, ...]

    @property
    def share(self) -> float:
        """Of the rows that are asked, those whose answer is read wholly right."""
        return sum(self.correct) / len(self.correct)


@dataclass(frozen=True)
class StateProbe:
    """A probe after each layer.

    Args:
        strengths: ridges to choose from, in units of the states' mean variance.

    Raises:
        ExpungeError: there is no strength, or one is not positive.
    """

    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)

    def __post_init__(self) -> None:
        if not self.strengths or min(self.strengths) <= 0:
            raise ExpungeError(
                f"A probe got the strengths {self.strengths}; positive ones, at least one, are "
                "expected."
            )

    def readings(
        self,
        family: Family,
        model: nn.Module,
        learned: Samples,
        validation: Samples,
        asked: Samples,
        run: Run,
    ) -> tuple[Reading, ...]:
        """What can be read of ``asked`` after each layer, from the first to the last.

        Args:
            family: with taps.
            model: it stays as it is.
            learned: retained rows that the probe is learned from.
            validation: retained rows that the strength is chosen on.
            asked: forgotten rows.
            run: device and precision.

        Raises:
            ExpungeError: a set of rows is empty, or two of them share a row.
        """
        _check(learned, validation, asked)
        sets = (learned, validation, asked)
        return tuple(
            self._reading(tap, *(_states(family, model, rows, tap, run) for rows in sets))
            for tap in family.anatomy(model).taps
        )

    def _reading(
        self, tap: str, learned: AnswerTokens, validation: AnswerTokens, asked: AnswerTokens
    ) -> Reading:
        best: tuple[float, float, Tensor] | None = None
        centre = learned.values.mean(0)
        for strength in self.strengths:
            weights, classes = _ridge(learned, centre, strength)
            right = _right(validation, centre, weights, classes).float().mean()
            if best is None or float(right) > best[0]:
                best = float(right), strength, _right(asked, centre, weights, classes)
        assert best is not None
        return Reading(tap, best[1], best[0], tuple(best[2].tolist()))


def _ridge(learned: AnswerTokens, centre: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Weights (d + 1, C) of the least squares from states to answer tokens, and the tokens (C,)."""
    classes, targets = np.unique(learned.tokens.numpy(), return_inverse=True)
    states = _with_one(learned.values - centre)
    wanted = F.one_hot(torch.from_numpy(targets), len(classes)).double()
    variance = states[:, :-1].square().mean()
    ridge = torch.full((states.shape[1],), float(strength * variance * len(states))).double()
    ridge[-1] = 1e-9  # the constant is not held back; a little keeps the system solvable
    gram = states.T @ states + torch.diag(ridge)
    return torch.linalg.solve(gram, states.T @ wanted), torch.from_numpy(classes)


def _right(tokens: AnswerTokens, centre: Tensor, weights: Tensor, classes: Tensor) -> Tensor:
    """Whether every token of each answer (B,) is the one that is read."""
    read = classes[(_with_one(tokens.values - centre) @ weights).argmax(1)]
    wrong = tokens.rows[read != tokens.tokens]
    right = torch.ones(tokens.count, dtype=torch.bool)
    right[wrong] = False
    return right


def _with_one(states: Tensor) -> Tensor:
    return torch.cat([states, states.new_ones(len(states), 1)], 1)


def _states(family: Family, model: nn.Module, rows: Samples, tap: str, run: Run) -> AnswerTokens:
    """States (n, d), float64 on the CPU, at the positions that answer tokens are predicted from."""
    reader, parts, count = able(family, HasTaps), [], 0
    with evaluating(on_device(model, run)) as asked, torch.inference_mode(), run.autocast():
        for raw in batches(rows, READ_AT_ONCE):
            batch = {name: tensor.to(run.device) for name, tensor in raw.items()}
            found = reader.tapped(asked, batch, tap)
            parts.append((found, found.rows.cpu() + count))
            count += found.count
    return AnswerTokens(
        torch.cat([one.values.cpu().double() for one, _ in parts]),
        torch.cat([one.tokens.cpu() for one, _ in parts]),
        torch.cat([places for _, places in parts]),
        torch.cat([one.places.cpu() for one, _ in parts]),
        count,
    )


def _check(learned: Samples, validation: Samples, asked: Samples) -> None:
    sizes = [len(learned), len(validation), len(asked)]
    if not all(sizes):
        raise ExpungeError(
            f"A probe got {sizes[0]} rows to learn from, {sizes[1]} to choose on and {sizes[2]} to "
            "read; at least one of each is expected."
        )
    names = [set(rows.ids) for rows in (learned, validation, asked)]
    both = (names[0] & names[1]) | (names[0] & names[2]) | (names[1] & names[2])
    if both:
        raise ExpungeError(
            f"{len(both)} rows are in two of the sets that a probe learns from, is chosen on and "
            f"reads, such as {min(both)!r}; separate rows are expected."
        )
