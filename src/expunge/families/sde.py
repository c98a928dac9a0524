"""Diffusions in continuous time: how data become noise, and what is needed to come back.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021). Score-Based Generative Modeling through
Stochastic Differential Equations (Section 3.4, Appendix B). Each is dx = f(x, t) dt + g(t) dw for t
from 0 to 1, with Gaussian marginals x_t = m_t x_0 + sigma_t z.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from expunge.errors import ExpungeError


class SDE(Protocol):
    """A diffusion whose marginals are known."""

    @property
    def name(self) -> str:
        """Its name in the literature."""
        ...

    @property
    def prior(self) -> float:
        """Standard deviation of the noise at t = 1."""
        ...

    def marginal(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """The factor m_t of the data and the deviation sigma_t of the noise, both (B,)."""
        ...

    def drift(self, time: Tensor) -> Tensor:
        """The factor (B,) of x in f(x, t): all three drifts are linear."""
        ...

    def diffusion(self, time: Tensor) -> Tensor:
        """The factor g (B,) of the noise."""
        ...


@dataclass(frozen=True)
class VP:
    """Variance preserving: the limit of DDPM's noising, with beta from ``first`` to ``last``."""

    name: ClassVar[str] = "VP"
    prior: ClassVar[float] = 1.0

    first: float = 0.1
    last: float = 20.0

    def __post_init__(self) -> None:
        _rising("beta", self.first, self.last)

    def beta(self, time: Tensor) -> Tensor:
        """The rate (B,) at which noise comes in."""
        return self.first + time * (self.last - self.first)

    def spent(self, time: Tensor) -> Tensor:
        """The integral of beta from 0 to t (B,)."""
        return self.first * time + (self.last - self.first) * time.square() / 2

    def marginal(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """exp(-spent / 2), and the root of 1 minus its square."""
        spent = self.spent(time)
        return torch.exp(-spent / 2), torch.sqrt(-torch.expm1(-spent))

    def drift(self, time: Tensor) -> Tensor:
        """-beta / 2."""
        return -self.beta(time) / 2

    def diffusion(self, time: Tensor) -> Tensor:
        """The root of beta."""
        return self.beta(time).sqrt()


@dataclass(frozen=True)
class SubVP:
    """The same mean with less noise: its variance is the square of VP's."""

    name: ClassVar[str] = "sub-VP"
    prior: ClassVar[float] = 1.0

    first: float = 0.1
    last: float = 20.0

    def __post_init__(self) -> None:
        _rising("beta", self.first, self.last)

    def marginal(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """exp(-spent / 2) and 1 minus its square."""
        spent = VP(self.first, self.last).spent(time)
        return torch.exp(-spent / 2), -torch.expm1(-spent)

    def drift(self, time: Tensor) -> Tensor:
        """-beta / 2."""
        return VP(self.first, self.last).drift(time)

    def diffusion(self, time: Tensor) -> Tensor:
        """The root of beta (1 - exp(-2 spent))."""
        same = VP(self.first, self.last)
        return (same.beta(time) * -torch.expm1(-2 * same.spent(time))).sqrt()


@dataclass(frozen=True)
class VE:
    """Variance exploding: the data stay as they are, the noise grows from ``first`` to ``last``."""

    name: ClassVar[str] = "VE"

    first: float = 0.01
    last: float = 50.0

    def __post_init__(self) -> None:
        _rising("sigma", self.first, self.last)

    @property
    def prior(self) -> float:
        """The largest deviation."""
        return self.last

    def marginal(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """1, and first (last / first)^t."""
        return torch.ones_like(time), self.first * (self.last / self.first) ** time

    def drift(self, time: Tensor) -> Tensor:
        """None."""
        return torch.zeros_like(time)

    def diffusion(self, time: Tensor) -> Tensor:
        """sigma_t times the root of 2 log(last / first)."""
        return self.marginal(time)[1] * math.sqrt(2 * math.log(self.last / self.first))


def _rising(what: str, first: float, last: float) -> None:
    if not 0 < first < last:
        raise ExpungeError(
            f"A diffusion got {what} from {first:g} to {last:g}; two numbers above 0 are expected, "
            "the second one larger."
        )
