"""Relearning at several rates: a class that is slow at one of them is found at another."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from expunge.audit.inquiry import Inquiry, Level, Walk
from expunge.audit.policy import Policy
from expunge.audit.questions.relearned import comes_back, speeds
from expunge.audit.references import References
from expunge.audit.removal import Removal
from expunge.audit.self_test import FORGOTTEN, World
from expunge.audit.verdict import Evidence, Result

USUAL, SLOW = 1e-3, 3e-4
POLICY = Policy.of({"stays_forgotten": {"rates": [USUAL, SLOW]}})


@pytest.fixture(scope="module")
def oracle(world: World) -> nn.Module:
    return next(known.model for known in world.models if known.name == "oracle")


def hidden(model: nn.Module) -> nn.Module:
    """The class denied by every weight of its logit, with its bias as it was."""
    other = copy.deepcopy(model)
    last = [part for part in other.modules() if isinstance(part, nn.Linear)][-1]
    with torch.no_grad():
        last.weight[FORGOTTEN] -= 0.12
    return other


def by_rate(found: list[Evidence]) -> dict[float, Evidence]:
    return {item.details["rate"]: item for item in found}


def test_a_class_hidden_in_weights_passes_at_one_rate_and_is_found_at_another(
    removal: Removal, oracle: nn.Module
) -> None:
    references = References(removal, given=(oracle,))
    inquiry = Inquiry(removal, hidden(removal.before), references, POLICY, Level.ADVERSARIAL)
    assert inquiry.score(inquiry.answers.forget) == 0
    found = by_rate(speeds(inquiry, POLICY.stays_forgotten.speed))
    assert found[USUAL].result is Result.PASS
    assert found[SLOW].result is Result.FAIL
    assert "at the rate 0.0003" in found[SLOW].sentence
    assert found[SLOW].details["deployed"] != found[USUAL].details["deployed"]
    related = comes_back(inquiry, Walk("related", SLOW), 0.1)
    assert related.details["rate"] == SLOW
    assert "related rows at the rate 0.0003" in related.name


def test_the_standard_level_walks_at_the_first_rate(removal: Removal, oracle: nn.Module) -> None:
    inquiry = Inquiry(removal, oracle, References(removal, given=(oracle,)), POLICY)
    assert {walk.rate for walk in inquiry.walks} == {USUAL}
    adversarial = replace(inquiry, level=Level.ADVERSARIAL)
    assert {walk.rate for walk in adversarial.walks} == {USUAL, SLOW}
