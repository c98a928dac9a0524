"""The shipped models as a ledger registers them: ``--from expunge.benchmarks.registered:emoji``."""

from torch import nn

from expunge.benchmarks import shipped
from expunge.benchmarks.shipped import Work
from expunge.ledger.material import Material
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.protocol import Method
from expunge.recipe import Role
from expunge.run import Run

DIFFERENCE = GradientDifference(8, 5e-4, 0.01, 32, 128, forget_weight=0.1)
"""What the demo takes for requests of about 40 drawings: vectors made with a retain term."""


def emoji(seed: int = 0) -> Material:
    """The dual encoder of the emoji, as `expunge demo` asks it; held out is the vendor on which its
    strengths were chosen."""
    work = shipped.emoji_dual_encoder(copies=1)
    return _material(shipped.emoji_base(), work, DIFFERENCE, seed)


def digits(seed: int = 0) -> Material:
    """A classifier of the handwritten digits, trained on the spot in a few seconds."""
    work = shipped.digits_classifier_work()
    model = work.recipe.make(work.data, Run()).model
    return _material(model, work, GradientDifference(6, 3e-4), seed)


def _material(model: nn.Module, work: Work, method: Method, seed: int) -> Material:
    return Material(
        model,
        work.recipe.family,
        work.data[Role.TRAIN],
        work.table,
        work.validation,
        work.validation_table,
        method,
        recipe=work.recipe,
        settings="chosen on validation rows",
        aggregation="sum",
        seed=seed,
    )
