"""The methods as they enter: those of the paper in its settings, and presets beside them.

Choi, Na (2023). Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial
Recognition Systems. All take two passes over the retain set in batches of 64, by plain SGD at a
rate of .001. UNSIR's notebook could not be read: its form here is the method's own (Adam), one
impairing and one repairing pass, with one batch of noise. The paper leaves out steps whose two
batches differ in length; here every step is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from expunge import registry
from expunge.audit.case import described, source_of
from expunge.descent.forget_terms import Ascent
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Parameters, Player, Term, Trainable
from expunge.descent.retain_terms import Loss
from expunge.descent.selections import LastBlocks
from expunge.errors import ExpungeError
from expunge.methods.presets import preset_of
from expunge.methods.protocol import ByDescent, Method
from expunge.methods.scrub import Scrub
from expunge.methods.unsir import Unsir
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

MULTIPLES = (0.25, 1.0, 4.0, 16.0)
"""Of the published rate, among which validation persons decide."""

NOISE_ROWS, COPIES = 64, 10
"""Rows of UNSIR's noise, one batch, and how often each is in the stream: beside the 1,056 drawn
rows who stay, about the share of noise that the original code has."""


@dataclass(frozen=True)
class PlainSgd(ByDescent):
    """The loop of the paper around up to two terms.

    Args:
        forget: on the forget set, whose batches go round; None reads none.
        retain: on the retain set; None reads none.
        parameters: what moves.
        learning_rate: of SGD without momentum.
        epochs: passes over the retain set, whether a term reads it or its length alone counts.
        batch_size: rows of each set a step.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "plain-sgd"
    paper: ClassVar[str] = "Choi, Na 2023, Towards Machine Unlearning Benchmarks"

    forget: Term | None = None
    retain: Term | None = field(default_factory=Loss)
    parameters: Parameters = field(default_factory=Trainable)
    learning_rate: float = 1e-3
    epochs: int = 2
    batch_size: int = 64
    sequential: bool = False

    def descent(self) -> Descent:
        """One player."""
        return Descent(
            Player(
                forget=self.forget,
                retain=self.retain,
                parameters=self.parameters,
                optimiser=SGD(self.learning_rate),
            ),
            length=Epochs(self.epochs, of=Role.RETAIN),
            batch_size=self.batch_size,
        )


@dataclass(frozen=True)
class Form:
    """One row of the tables.

    Args:
        name: of the row.
        method: with its fields; of a preset, where that starts from.
        rates: fields that are multiplied where its strength is chosen; none are for a preset.
    """

    name: str
    method: Method
    rates: tuple[str, ...] = ()

    @property
    def preset(self) -> bool:
        """Whether it finds its own fields."""
        return not self.rates

    def made(self, multiple: float, problem: Problem, run: Run) -> Method:
        """The method at a multiple of its rates, or at its preset for a problem."""
        if self.preset:
            return preset_of(self.method, problem, run)
        method: Any = self.method
        rates = {name: multiple * getattr(method, name) for name in self.rates}
        found: Method = replace(method, **rates)
        return found

    def facts(self) -> Mapping[str, object]:
        """What a result depends on."""
        kind = type(self.method)
        return {"made": described(self.method), "rates": self.rates, "source": source_of(kind)}


ORIGINAL, ORACLE = "original", "retrained"
FINE_TUNE, NEG_GRAD, ADVANCED = "fine-tune", "NegGrad", "Advanced NegGrad"
PRESETS = ("scrub", "gradient-difference", "random-label", "ssd")
"""Registered methods that enter with their presets."""


def forms(last: int) -> dict[str, Form]:
    """All rows beside the original and the retrained model.

    Args:
        last: blocks that CF-3 trains.
    """
    rate, both = ("learning_rate",), ("impair_learning_rate", "repair_learning_rate")
    paper = [
        Form(FINE_TUNE, PlainSgd(), rate),
        Form("CF-3", PlainSgd(parameters=LastBlocks(last)), rate),
        Form(NEG_GRAD, PlainSgd(forget=Ascent(), retain=None), rate),
        Form(ADVANCED, PlainSgd(forget=Ascent()), rate),
        Form("UNSIR-1", Unsir(NOISE_ROWS, copies=COPIES, repair_epochs=0), both),
        Form("UNSIR-2", Unsir(NOISE_ROWS, copies=COPIES), both),
        Form("SCRUB", Scrub(), rate),
    ]
    ours = [Form(f"{name}, preset", registry.load("methods", name)()) for name in PRESETS]
    return {form.name: form for form in [*paper, *ours]}


def form(name: str, last: int) -> Form:
    """The form of a name.

    Raises:
        ExpungeError: there is none.
    """
    known = forms(last)
    if name not in known:
        raise ExpungeError(f"There is no method {name!r} here; there are {', '.join(known)}.")
    return known[name]
