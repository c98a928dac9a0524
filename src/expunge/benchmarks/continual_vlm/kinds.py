"""How vectors are made, and the methods that go on from the current model."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from expunge.benchmarks.demo import NEGATION, ONE_AFTER_ANOTHER
from expunge.benchmarks.registered import DIFFERENCE
from expunge.methods.confined import ConfinedNegation
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.negation import Negation
from expunge.methods.npo import NPO
from expunge.methods.presets import AtPreset
from expunge.methods.protocol import Method
from expunge.methods.salun import SalUn

KINDS: Mapping[str, Method] = MappingProxyType(
    {
        "negation": NEGATION,
        "untrimmed": replace(NEGATION, kept=1.0),
        "confined": ConfinedNegation(4, 3e-5, 0.1, 32),
        "graddiff": DIFFERENCE,
        "npo": NPO(4, 1e-4, batch_size=32),
        "salun": SalUn(epochs=1),
    }
)
"""A vector of each request alone, made from the base; one line for each kind.

``untrimmed`` is what ``confined`` is made of: beside it stands what confining does alone."""

PRESETS: Mapping[str, Method] = MappingProxyType(
    {
        "negation": AtPreset.of(Negation()),
        "untrimmed": AtPreset.of(Negation(kept=1.0), ("kept",)),
        "confined": AtPreset.of(ConfinedNegation()),
        "graddiff": AtPreset.of(GradientDifference()),
        "salun": AtPreset.of(SalUn()),
    }
)
"""The same for a model that nobody has looked at; NPO has no preset for models with classes."""

SEQUENTIAL: Mapping[str, Method] = MappingProxyType(
    {
        "fine-tune": FineTune(2, 1e-4, sequential=True),
        "gradient-ascent": GradientAscent(4, 3e-5, 32, sequential=True),
        "npo": NPO(4, 3e-5, batch_size=32, sequential=True),
        "graddiff": ONE_AFTER_ANOTHER,
    }
)
"""Methods that start from the current model at each request."""
