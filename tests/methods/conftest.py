"""The classifier of the small checks: digits, widths 64-128-64-10, SGD, 40 epochs, three seeds."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work, digits_classifier_work
from expunge.deployment import Deployment
from expunge.descent.optimisers import SGD
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.models.mlp import Mlp
from expunge.recipe import Recipe, Role
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
