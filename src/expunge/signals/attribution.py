"""Attribution by gradients: what training rows add to a model's outputs, without training again.

Park, Georgiev, Ilyas, Leclerc, Madry (2023). TRAK: Attributing Model Behavior at Scale. The model
is taken for a logistic regression on the gradients of its margins, projected to few dimensions.
The published scores are divided by the mean magnitude of the inverse Gram matrix, so that they are
known up to a factor; datamodel matching needs the magnitude, and nothing is divided here. The sign
is that of presence: what a row ADDS.

Only the sum over a set of rows is asked for. It is a direction in the space of weights, and its
effect on every output of any row is one derivative along it, so that no gradient of an output is
ever stored.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from expunge.data.samples import Batch, Samples, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasMargins, HasOutputs, able
from expunge.models.modes import evaluating
from expunge.run import Run, on_device
from expunge.signals.gradients import Gradients, row_gradients

BLOCK = 4096
"""Weights whose row of the projection is drawn at a time."""


@dataclass(frozen=True)
class Projection:
    """A random projection of gradients by independent signs, times one over the root of the number
    of dimensions: inner products are kept on average.

    The signs are drawn anew whenever they are needed and never held together.

    Args:
        dimensions: D.
        seed: draws the signs.
    """

    dimensions: int
    seed: int = 0

    def of(self, gradients: Gradients) -> Tensor:
        """Projected gradients (B, D) of rows: tensors (B, ...) by parameter."""
        total = torch.zeros(len(next(iter(gradients.values()))), self.dimensions)
        for name, gradient in gradients.items():
            flat = gradient.flatten(1).cpu()
            for start, signs in self._blocks(name, flat.shape[1]):
                total += flat[:, start : start + len(signs)] @ signs
        return total

    def back(self, vector: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The direction in the space of weights that a vector (D,) stands for: the transpose."""
        found = {}
        for name, weights in like.items():
            parts = [signs @ vector.float() for _, signs in self._blocks(name, weights.numel())]
            found[name] = torch.cat(parts).reshape(weights.shape)
        return found

    def _blocks(self, name: str, size: int) -> Iterator[tuple[int, Tensor]]:
        """First weight and signs (weights, D) of each block of a parameter."""
        for start in range(0, size, BLOCK):
            mixed = hashlib.sha256(f"{self.seed}:{name}:{start}".encode()).digest()
            draws = torch.Generator().manual_seed(int.from_bytes(mixed[:8], "big") >> 1)
            shape = min(BLOCK, size - start), self.dimensions
            signs = torch.randint(0, 2, shape, generator=draws, dtype=torch.int8)
            yield start, (2 * signs.float() - 1) / self.dimensions**0.5


@dataclass(frozen=True, eq=False)
class MarginFeatures:
    """What is kept of the training rows at one model.

    Args:
        gradients: projected gradients of the margins, float32 (n, D).
        doubt: 1 - p of each row (n,), p being the probability of its label.
    """

    gradients: Tensor
    doubt: Tensor

    @classmethod
    def of(
        cls, family: Family, model: nn.Module, samples: Samples, projection: Projection, run: Run
    ) -> "MarginFeatures":
        """One pass over the rows, with the gradient of each.

        Raises:
            ExpungeError: the family has no margins, or a gradient is not finite.
        """
        scorer = able(family, HasMargins)

        def margins(asked: nn.Module, batch: Batch) -> Tensor:
            return scorer.margins(asked, batch)

        chunks = row_gradients(margins, family, model, samples, run)
        gradients = torch.cat([projection.of(chunk) for chunk in chunks])
        draws, found = run.generator("gradients/draw"), []
        with evaluating(on_device(model, run)) as asked, torch.no_grad():
            for raw in batches(samples, 256):
                drawn = family.draw(raw, draws)
                batch = {name: tensor.to(run.device) for name, tensor in drawn.items()}
                found.append(torch.sigmoid(-scorer.margins(asked, batch).float()).cpu())
        return cls(gradients, torch.cat(found))

    def presence(self, rows: Sequence[int], damping: float) -> Tensor:
        """The projected step (D,) of the weights that training on ``rows`` accounts for, float64.

        (Phi^T Phi + damping I)^-1 times the sum over the rows of (1 - p) g.

        Raises:
            ExpungeError: the matrix has no inverse.
        """
        phi = self.gradients.double()
        gram = phi.T @ phi + damping * torch.eye(phi.shape[1], dtype=torch.float64)
        right = phi[list(rows)].T @ self.doubt[list(rows)].double()
        factor, failed = torch.linalg.cholesky_ex(gram)
        if bool(failed):
            raise ExpungeError(
                f"The Gram matrix of {len(phi)} rows in {phi.shape[1]} dimensions has no inverse; "
                "give fewer dimensions than rows, or a damping above 0."
            )
        found: Tensor = torch.cholesky_solve(right.unsqueeze(1), factor).squeeze(1)
        return found


def derivative_along(
    direction: Mapping[str, Tensor], family: Family, model: nn.Module, samples: Samples, run: Run
) -> Tensor:
    """Derivative (n, ...) of every output of the rows along a direction of the weights, float32.

    Args:
        direction: one tensor for each parameter that moves, by canonical name.
        family: it has outputs.
        model: stays as it is.
        samples: n rows.
        run: device and random numbers.
    """
    scorer, draws, found = able(family, HasOutputs), run.generator("outputs/draw"), []
    with evaluating(on_device(model, run)) as asked, torch.no_grad():
        weights = dict(asked.named_parameters())
        moving = {name: weights[name].detach() for name in direction}
        along = {name: part.to(moving[name]) for name, part in direction.items()}
        caller = _Outputs(asked, scorer)
        for raw in batches(samples, 256):
            drawn = family.draw(raw, draws)
            batch = {name: tensor.to(run.device) for name, tensor in drawn.items()}

            def outputs(given: dict[str, Tensor], batch: Batch = batch) -> Tensor:
                named = {f"model.{name}": tensor for name, tensor in given.items()}
                answer: Tensor = functional_call(caller, named, (batch,))
                return answer

            found.append(jvp(outputs, (moving,), (along,))[1].float().cpu())
    return torch.cat(found)


def agreement(predicted: Tensor, true: Tensor) -> tuple[float, float]:
    """Correlation of two tensors of one shape, and the slope of ``true`` on ``predicted`` through
    the origin: the factor by which predictions come nearest.

    Raises:
        ExpungeError: all predictions are 0, or one side does not vary.
    """
    x, y = predicted.double().reshape(-1), true.double().reshape(-1)
    square = float(x @ x)
    if square == 0 or float(x.std()) == 0 or float(y.std()) == 0:
        raise ExpungeError(
            f"{len(x)} predicted and true changes were compared and one side does not vary; check "
            "that the rows were part of the training set."
        )
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1]), float(x @ y) / square


class _Outputs(nn.Module):
    """A module whose answer is the family's outputs, so that the parameters can be given."""

    def __init__(self, model: nn.Module, scorer: HasOutputs) -> None:
        super().__init__()
        self.model, self._scorer = model, scorer
        self.training = model.training

    def forward(self, batch: Batch) -> Tensor:
        return self._scorer.outputs(self.model, batch)
