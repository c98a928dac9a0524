"""SLD: safe latent diffusion. Drawings are led away from a concept; the weights stay as they are.

Schramowski, Brack, Deiseroth, Kersting (2023). Safe Latent Diffusion: Mitigating Inappropriate
Degeneration in Diffusion Models.

The paper's four strengths are :meth:`SafeLatent.weak`, the defaults (medium),
:meth:`SafeLatent.strong` and :meth:`SafeLatent.maximum`; its warm-ups are steps of 50. It reads
nothing but the words of the request, and deletes nothing.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

from expunge.changes.safe_guidance import Avoided, Push, SafeGuidance
from expunge.descent.conditions import target_of
from expunge.families.abilities import able
from expunge.families.diffusion import TextDiffusion
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Access, Problem
from expunge.run import Run


@dataclass(frozen=True)
class SafeLatent:
    """Guide away from the words of the request.

    Args:
        warm_up: steps of the sampler before it acts.
        scale: of the distance between the prompt's noise and the concept's.
        threshold: it acts where the prompt's noise exceeds the concept's by less.
        momentum: share of what it did before that is added.
        decay: of that memory.

    Raises:
        ExpungeError: a number cannot be.
    """

    name: ClassVar[str] = "safe-latent"
    paper: ClassVar[str] = "Schramowski et al. 2023, Safe Latent Diffusion"
    sequential: ClassVar[bool] = False
    needs: ClassVar[tuple[type, ...]] = (TextDiffusion,)
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access()
    suppresses_by: ClassVar[str] = "guard"
    search: ClassVar[Mapping[str, Range]] = {
        "scale": LogUniform(100, 10_000),
        "warm_up": WholeNumber(0, 15),
    }

    warm_up: int = 10
    scale: float = 1000.0
    threshold: float = 0.01
    momentum: float = 0.3
    decay: float = 0.4

    def __post_init__(self) -> None:
        self._push()

    @classmethod
    def weak(cls) -> Self:
        """The paper's weakest."""
        return cls(15, 200.0, 0.0, 0.0, 0.0)

    @classmethod
    def medium(cls) -> Self:
        """The defaults."""
        return cls()

    @classmethod
    def strong(cls) -> Self:
        """The paper's third."""
        return cls(7, 2000.0, 0.025, 0.5, 0.7)

    @classmethod
    def maximum(cls) -> Self:
        """The paper's strongest: from the first step, almost everywhere."""
        return cls(0, 5000.0, 1.0, 0.5, 0.7)

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """A :class:`~expunge.changes.safe_guidance.SafeGuidance` with one concept.

        Raises:
            ExpungeError: the request says no words, or some that the model does not know.
        """
        family = able(problem.family, TextDiffusion)
        [condition] = family.conditions([target_of(problem)])
        facts = {"method": self.name, "request": problem.request.digest()}
        return Outcome((SafeGuidance((Avoided(condition, self._push()),), facts),))

    def _push(self) -> Push:
        return Push(**asdict(self))
