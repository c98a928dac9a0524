"""How far a change is applied, searched over its length instead of over a factor.

Rules give changes of very different lengths (a mean of T vectors is a T-th of their sum), and every
rule is homogeneous. A search over the length of the change that is applied, as a share of the norm
of the weights that can move, asks all of them at the same places: two rules that point the same way
end in the same model, and no rule ends at a limit that was meant for another.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from expunge.changes.strength import bisected
from expunge.errors import ExpungeError


@dataclass(frozen=True)
class Lengths:
    """Where a length is looked for: up or down the doublings of the smallest one until a condition
    turns, then by halving.

    Args:
        first: the smallest length, as a share of the norm of the weights.
        doublings: of it; the last is the limit, eight times the norm of the weights by default:
            dense vectors of several requests may be longer than these.
        halvings: bisections between the last two.
        begun: the doubling that is asked first. Each question is an evaluation of a model, and the
            turns of sparse and of dense vectors are three doublings to either side of this one.
    """

    first: float = 2.0**-10
    doublings: int = 13
    halvings: int = 6
    begun: int = 4

    def __post_init__(self) -> None:
        if self.first <= 0 or self.halvings < 0 or not 0 <= self.begun <= self.doublings:
            raise ExpungeError(
                f"A search from {self.first} with {self.doublings} doublings, begun at number "
                f"{self.begun}, and {self.halvings} halvings was asked for; a length above 0, "
                "numbers of at least 0 and a beginning among the doublings are expected."
            )

    def doubled(self, times: int) -> float:
        """The smallest length, doubled so many times; 0 for less than none."""
        return float(self.first * 2**times) if times >= 0 else 0.0

    @property
    def limit(self) -> float:
        """The largest length."""
        return self.doubled(self.doublings)


@dataclass(frozen=True)
class Turn:
    """The last length below and the first above the place where a condition turned.

    ``above`` is None where it did not turn up to the limit, which is then ``below``.
    """

    below: float
    above: float | None


def turn(turned: Callable[[float], bool], lengths: Lengths) -> Turn:
    """Where a condition that is false at length 0 becomes true; one place of several, if it turns
    more than once."""
    at = lengths.begun
    if turned(lengths.doubled(at)):
        while at > 0 and turned(lengths.doubled(at - 1)):
            at -= 1
    else:
        at += 1
        while at <= lengths.doublings and not turned(lengths.doubled(at)):
            at += 1
        if at > lengths.doublings:
            return Turn(lengths.limit, None)
    return Turn(*bisected(turned, lengths.doubled(at - 1), lengths.doubled(at), lengths.halvings))


def weight_norm(model: nn.Module) -> float:
    """Euclidean norm of the parameters that can move."""
    squares = (p.detach().double().square().sum() for p in model.parameters() if p.requires_grad)
    return float(sum(float(square) for square in squares) ** 0.5)
