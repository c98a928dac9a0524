"""The rule for language models: how its rate follows from the size of a model."""

import pytest
import torch

from expunge.changes.history import History
from expunge.data.samples import TensorSamples
from expunge.families.language import Language
from expunge.methods.language_presets import DEPTH, STRIDE, WIDTH, smaller
from expunge.methods.npo import NPORetain
from expunge.methods.presets import preset_of, typical_weight
from expunge.models.tiny_llama import TinyLlama
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST


def of(layers: int, width: int) -> Problem:
    ids = torch.zeros(4, 3, dtype=torch.int64)
    names = list("abcd")
    rows = TensorSamples(names, names, {"input_ids": ids, "labels": ids})
    data = {Role.FORGET: rows, Role.RETAIN: rows}
    return Problem(TinyLlama(20, layers, width)(0), Language(), NO_REQUEST, data, History())


@pytest.mark.parametrize(
    ("layers", "width", "factor"),
    [(DEPTH, WIDTH, 1), (2, 64, 1), (DEPTH, 2 * WIDTH, 1 / 2), (2 * DEPTH, WIDTH, 1 / 2)],
)
def test_the_rate_falls_with_width_times_depth(layers: int, width: int, factor: float) -> None:
    problem = of(layers, width)
    assert smaller(problem) == factor
    found = preset_of(NPORetain(), problem)
    assert isinstance(found, NPORetain)
    assert found.learning_rate == pytest.approx(STRIDE * factor * typical_weight(problem))
