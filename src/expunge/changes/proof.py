"""What is proven of a removal, and of which part of a model. It needs no tensors, so that a
certificate is checked without torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Certified:
    """What the method of a change has a proof of, beside which nothing is proven.

    Args:
        scope: the part of the model that it covers, and what it leaves out, in words.
        epsilon: what a head or model may differ by in distribution from one that never saw the
            rows, all removals together; None where nothing is random, so that they are equal.
        delta: probability with which that may fail; None with ``epsilon``.
    """

    scope: str
    epsilon: float | None = None
    delta: float | None = None

    def told(self) -> str:
        """In one line."""
        if self.epsilon is None or self.delta is None:
            return self.scope
        return f"{self.scope} (epsilon {self.epsilon:.3g} at delta {self.delta:.3g})"
