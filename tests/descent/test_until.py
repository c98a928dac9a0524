"""Until: a descent's end by what is answered, the retain rows as far as they were at the start."""

import copy

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.data.encoding import IGNORED
from expunge.data.samples import TensorSamples
from expunge.descent.until import Until
from expunge.families.language import Language
from expunge.models.tiny_llama import TinyLlama
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST
from expunge.run import Run

WORDS, ROWS = 40, 16


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return TinyLlama(WORDS, 2, 32, inner=64)(0).eval()


def rows(model: nn.Module, right: int) -> TensorSamples:
    """Rows of three tokens, of which the model answers the last one of the first ``right``."""
    prompts = torch.randint(WORDS, (ROWS, 2), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        best: Tensor = model(input_ids=prompts).logits[:, -1].argmax(1)
    best[right:] = (best[right:] + 1) % WORDS
    ids = torch.cat([prompts, best[:, None]], 1)
    labels = torch.full_like(ids, IGNORED)
    labels[:, 2] = best
    names = [str(i) for i in range(ROWS)]
    return TensorSamples(names, names, {"input_ids": ids, "labels": labels})


def problem(model: nn.Module, right: int) -> Problem:
    data = {Role.FORGET: rows(model, 0), Role.RETAIN: rows(model, right)}
    return Problem(model, Language(), NO_REQUEST, data, History())


def test_what_was_never_answered_does_not_have_to_stay(model: nn.Module) -> None:
    until, half = Until(0.0, 0.97), problem(model, ROWS // 2)
    assert until.reached(half, model, Run(), "descent")
    lost = copy.deepcopy(model)
    with torch.no_grad():
        lost.get_submodule("model.norm").get_parameter("weight").neg_()  # the likeliest is the last
    assert not until.reached(half, lost, Run(), "descent")


def test_the_start_is_looked_at_only_where_it_matters(model: nn.Module) -> None:
    looks = {}
    for right in (ROWS, ROWS // 2):
        run = Run()
        assert Until(0.0, 0.97).reached(problem(model, right), model, run, "descent")
        looks[right] = run.meter.touched[Role.RETAIN.value]
    assert looks == {ROWS: ROWS, ROWS // 2: 2 * ROWS}
