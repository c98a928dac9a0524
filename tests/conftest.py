"""Real data and trained models that many tests share."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn

from expunge.benchmarks.shipped import Work, digits_classifier_work
from expunge.run import Run

torch.set_num_threads(1)
# how long an example takes says how busy the machine is, not whether the code is right
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def digits_work() -> Work:
    """The digits classifier's recipe and rows."""
    return digits_classifier_work()


@pytest.fixture(scope="session")
def digits_model(digits_work: Work) -> nn.Module:
    """The digits classifier, trained from its recipe. Tests must not change it."""
    return digits_work.recipe.make(digits_work.data, Run()).model
