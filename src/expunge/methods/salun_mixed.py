"""SalUn in one pass: both sets shuffled together, as for data sets of many classes.

Fan, Liu, Zhang, Wong, Wei, Liu (2024). SalUn: Empowering Machine Unlearning via Gradient-based
Weight Saliency in Both Image Classification and Generation. The form of the released code for
CIFAR-100 and Tiny ImageNet; see :mod:`~expunge.methods.random_label_mixed`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.selections import Saliency
from expunge.methods.random_label_mixed import InOnePass
from expunge.methods.search import LogUniform, Range, Uniform, WholeNumber


@dataclass(frozen=True)
class SalUnMixed(InOnePass):
    """Random labels in one pass over both sets, on the most salient weights.

    Args:
        kept: share of the weights that may move, ranked over the whole model.
    """

    name: ClassVar[str] = "salun-mixed"
    paper: ClassVar[str] = "Fan et al. 2024, SalUn"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-4, 1e-1),
        "epochs": WholeNumber(1, 20),
        "kept": Uniform(0.1, 1.0),
    }

    learning_rate: float = 0.013
    kept: float = 0.5

    def moving(self) -> Saliency:
        """The most salient."""
        return Saliency(self.kept)
