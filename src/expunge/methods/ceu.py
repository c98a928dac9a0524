"""CE-U: learn the model's own distribution without the answer.

Yang (2025). CE-U: Cross Entropy Unlearning. It reads no retain rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.player import Term
from expunge.descent.token_distillation import ExcludedTarget
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.two_terms import TwoTerms


@dataclass(frozen=True)
class CEU(TwoTerms):
    """Distillation to the target without the answer on the forget set.

    Args:
        skip: first tokens of an answer that are left out.
    """

    name: ClassVar[str] = "ceu"
    paper: ClassVar[str] = "Yang 2025, CE-U: Cross Entropy Unlearning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "skip": WholeNumber(0, 2),
    }

    skip: int = 1

    def forget(self) -> Term:
        """The distillation."""
        return ExcludedTarget(self.skip, self.forget_weight)

    def retain(self) -> None:
        """None."""
