"""The models of the small checks, of digits: a classifier (widths 64-128-64-10, SGD, 40 epochs,
three seeds) and a denoiser that is told labels."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work, digits_classifier_work
from expunge.changes.history import History
from expunge.data import digits, own
from expunge.deployment import Deployment
from expunge.descent.averages import MovingAverage
from expunge.descent.optimisers import SGD, AdamW
from expunge.families.classifier import Classifier
from expunge.families.diffusion import LabelDiffusion
from expunge.learning.supervised.averaged import Averaged
from expunge.learning.supervised.plain import Plain
from expunge.models.mlp import Mlp
from expunge.models.score_mlp import ScoreMlp
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows
from expunge.run import Run


def three_layers(seed: int) -> Mlp:
    return Mlp(torch.Generator().manual_seed(seed), (64, 128, 64, 10))


@cache
def _work() -> Work:
    return digits_classifier_work()


@cache
def _trained(seed: int) -> tuple[Recipe, nn.Module]:
    learner = Plain(40, 64, SGD(0.05, 0.9, 5e-4))
    recipe = Recipe(three_layers, Classifier(classes=10), learner, seed)
    return recipe, recipe.make(_work().data, Run()).model


@pytest.fixture
def trained() -> Callable[[int], Deployment]:
    """A fresh deployment of the model trained with a seed."""

    def deployed(seed: int) -> Deployment:
        recipe, model = _trained(seed)
        work = _work()
        train = work.data[Role.TRAIN]
        return Deployment(model, recipe.family, train, work.table, Sum(), recipe=recipe)

    return deployed


class Told(nn.Module):
    """A fast label-conditional denoiser: the label's embedding is added to the pixels."""

    def __init__(self, seed: int, labels: int = 11) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.net = ScoreMlp(draws, width=128, blocks=2)
        self.told = nn.Embedding(labels, 64)
        nn.init.normal_(self.told.weight, generator=draws)

    def forward(self, noised: Tensor, time: Tensor, label: Tensor) -> Tensor:
        answer: Tensor = self.net(noised + self.told(label).view_as(noised), time.float())
        return answer


@cache
def _drawing() -> Problem:
    table = digits.load("train")
    rows = own.samples(table, digits.tensors(table))
    family = LabelDiffusion(classes=tuple("0123456789"))
    recipe = Recipe(Told, family, Averaged(500, 128, AdamW(3e-3), MovingAverage(0.95)))
    goes = rows.columns["label"] == 3
    data = {
        Role.FORGET: rows.select(goes.nonzero().flatten()),
        Role.RETAIN: rows.select((~goes).nonzero().flatten()),
    }
    request = Request("the threes", Rows("label", ("3",)), labels=(3,))
    model = recipe.make({Role.TRAIN: rows}, Run()).model
    return Problem(model, family, request, data, History(), recipe=recipe)


@pytest.fixture
def drawing() -> Problem:
    """A denoiser of the digits that is told labels; the threes must go."""
    return _drawing()
