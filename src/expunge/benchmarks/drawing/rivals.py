"""What is compared: every method at a few strengths, and the controls.

The strengths are tried on another class than the one that is reported on, from other noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from expunge.descent.player import Parameters
from expunge.descent.selections import RandomEntries
from expunge.families.diffusion_sampling import DDIM, OneStep
from expunge.methods.erase_diff import EraseDiff, EraseDiffNoise
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.protocol import Method
from expunge.methods.relabel_diffusion import RelabelDiffusion, Relabelled
from expunge.methods.salun_diffusion import SalUnDiffusion
from expunge.methods.scissorhands import Scissorhands
from expunge.methods.selective_amnesia_diffusion import SelectiveAmnesiaDiffusion
from expunge.methods.sfd import SFD

SEVERAL = DDIM(15, 1.5)
"""How models are drawn from that were not distilled: guided, twice the evaluations of its steps."""

ONCE = OneStep(440)


@dataclass(frozen=True)
class RandomlyMasked(Relabelled):
    """The control of SalUn: as many weights, chosen by chance."""

    name: ClassVar[str] = "relabel-diffusion-random-mask"

    kept: float = 0.5

    def parameters(self) -> Parameters:
        """Half of them."""
        return RandomEntries(self.kept)


@dataclass(frozen=True)
class Rival:
    """A row of the table.

    Args:
        strengths: the method with the fields that are tried, the weakest first.
        like: another row, at the place of whose strength this one's is taken.
        once: it is drawn from in one step.
    """

    strengths: tuple[Method, ...]
    like: str | None = None
    once: bool = False


_SHORT: dict[str, Any] = {"steps": 50, "batch_size": 64}
_RATES = (3e-4, 1e-3)
_SFD = SFD(
    score_learning_rate=3e-4,
    learning_rate=3e-4,
    score_forget_weight=1.0,
    forget_weight=0.05,
    batch_size=64,
    forget_batch_size=16,
    steps=120,
    decay=0.97,
)


def _at(method: Any, **fields: tuple[float, ...]) -> tuple[Method, ...]:
    [(name, values)] = fields.items()
    return tuple(replace(method, **{name: value}) for value in values)


RIVALS: Mapping[str, Rival] = {
    "fine-tuning": Rival((FineTune(3, 1e-3),)),
    "gradient ascent": Rival(_at(GradientAscent(5), learning_rate=(1e-4, 2e-4, 3e-4))),
    "gradient difference": Rival(
        _at(GradientDifference(12, forget_weight=0.1, retain_batch_size=64), learning_rate=_RATES)
    ),
    "relabelling": Rival(_at(RelabelDiffusion(retain_weight=1.0, **_SHORT), learning_rate=_RATES)),
    "SalUn": Rival(
        _at(SalUnDiffusion(retain_weight=1.0, passes=5, **_SHORT), learning_rate=_RATES)
    ),
    "random mask": Rival(
        _at(RandomlyMasked(retain_weight=1.0, **_SHORT), learning_rate=_RATES), like="SalUn"
    ),
    "EraseDiff": Rival(_at(EraseDiff(**_SHORT), learning_rate=_RATES)),
    "EraseDiff, noise": Rival(
        _at(EraseDiffNoise(**_SHORT), learning_rate=_RATES), like="EraseDiff"
    ),
    "Scissorhands": Rival(
        _at(
            Scissorhands(trimmed=0.01, learning_rate=1e-3, **_SHORT),
            forget_weight=(0.03, 0.1),
        )
    ),
    "Selective Amnesia": Rival(
        _at(
            SelectiveAmnesiaDiffusion(
                replayed=180,
                sampler=SEVERAL,
                fisher_rows=20,
                fisher_stride=20,
                learning_rate=1e-3,
                **_SHORT,
            ),
            elasticity=(0.1, 0.001),
        )
    ),
    "SFD": Rival((_SFD,), once=True),
    "SFD, no forget term": Rival(
        (replace(_SFD, forget_weight=0.0, score_forget_weight=0.0),), once=True
    ),
}
"""By what the tables call them."""
