from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from torch import nn

from expunge.changes.deletion import DELETION, DeletionState, deletion_state
from expunge.changes.delta import Delta
from expunge.changes.history import History, Served
from expunge.changes.kinds import Change, Replacement
from expunge.changes.weights import digest_of
from expunge.requests import Request, Rows


class Shut:
    """A guard that answers nothing."""

    kind = "shut"
    artifacts: Mapping[str, str] = MappingProxyType({})

    def merged(self, others: object) -> "Shut":
        return self

    def around(self, model: nn.Module) -> nn.Module:
        return model


@pytest.fixture
def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(2, 2)


def history(model: nn.Module, *changes: Change) -> History:
    found = History.of(digest_of(model))
    for i, change in enumerate(changes):
        found = found.with_served(Served(Request(str(i), Rows("id", (str(i),))), (change,)))
    return found


def delta(model: nn.Module) -> Delta:
    return Delta(digest_of(model), {"weight": torch.ones(2, 2)})


def new(model: nn.Module, **facts: object) -> Replacement:
    return replace(Replacement.of(model, model), facts=facts)


def test_nothing_answered_has_no_state(linear: nn.Module) -> None:
    assert deletion_state(history(linear)) is None


def test_the_weakest_answer_counts(linear: nn.Module) -> None:
    assert deletion_state(history(linear, delta(linear))) is DeletionState.EDITED
    assert deletion_state(history(linear, delta(linear), Shut())) is DeletionState.SUPPRESSED


def test_retraining_answers_for_what_came_before_it_alone(linear: nn.Module) -> None:
    retrained = new(linear, **{DELETION: "retrained"})
    before = history(linear, retrained)
    assert deletion_state(before) is DeletionState.RETRAINED
    edited = replace(delta(linear), base=before.current.base)
    after = before.with_served(Served(Request("later", Rows("id", ("9",))), (edited,)))
    assert deletion_state(after) is DeletionState.EDITED


def test_a_replacement_that_says_nothing_is_an_edit(linear: nn.Module) -> None:
    assert deletion_state(history(linear, new(linear))) is DeletionState.EDITED
