"""A change after which the forget rows are answered as before is named."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from expunge.audit.gone import Gone, gone
from expunge.audit.measure import Panel, measure
from expunge.benchmarks.shipped import Work
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals.metric import Direction


@pytest.mark.parametrize(
    ("direction", "before", "after", "oracle", "little"),
    [
        ("higher", 0.98, 0.97, 0.01, True),  # nearly the original
        ("higher", 0.98, 0.60, 0.01, False),  # a part of the way
        ("higher", 0.98, 0.99, 0.01, True),  # away from the oracle
        ("higher", 0.98, 0.00, 0.50, False),  # past it
        ("higher", 0.98, 0.98, 0.95, False),  # there was next to nothing to forget
        ("higher", 0.98, 0.98, 0.98, False),
        ("higher", 0.30, 0.01, 0.40, False),  # the oracle knows more: no level to go to
        ("higher", 0.30, 0.30, 0.40, False),
        ("higher", 0.0, 0.0, 0.0, False),
        ("lower", 2.0, 2.1, 9.0, True),  # an error, which rises
        ("lower", 2.0, 5.0, 9.0, False),
        ("lower", 2.0, 3.0, 1.0, False),
        ("higher", 0.98, 0.98, None, True),  # no oracle: unchanged to the last digit
        ("higher", 0.98, 0.9799, None, False),
        ("higher", math.nan, 0.5, 0.1, False),
        ("higher", 0.98, math.nan, None, False),
        ("higher", 0.98, 0.98, math.nan, False),
    ],
)
def test_next_to_nothing_is_told_by_the_way_to_the_oracle(
    direction: Direction, before: float, after: float, oracle: float | None, little: bool
) -> None:
    assert Gone("threes", "figure", direction, before, after, oracle).little is little


def test_what_was_hardly_known_needs_no_forgetting() -> None:
    assert Gone("threes", "figure", "higher", 0.02, 0.02, 0.001).little
    assert not Gone("threes", "figure", "higher", 0.02, 0.02, 0.001, known=0.05).little


def test_it_is_said_with_all_three_figures() -> None:
    assert Gone("threes", "accuracy", "higher", 0.98, 0.97, 0.01).told() == (
        "Next to nothing of 'threes' is gone: the accuracy on its training rows went from 0.98 to "
        "0.97, and the oracle's is 0.01."
    )
    unknown = Gone("threes", "accuracy", "higher", 0.98, 0.98, None)
    assert "to 0.98, and there is no oracle" in unknown.told()


def test_the_probability_is_read_of_each_request_and_the_score_where_there_is_none(
    digits_work: Work, digits_model: nn.Module
) -> None:
    """Of two requests the one whose rows are answered as before is named."""
    train, table = digits_work.data[Role.TRAIN], digits_work.table
    requests = [Request(str(c), Rows("label", (str(c),))) for c in (3, 8)]
    panel = Panel.of_forget_rows(train, table, requests)
    family = digits_work.recipe.family
    before = measure(family, digits_model, panel, Run())
    wrong = copy.deepcopy(digits_model)
    with torch.no_grad():
        list(wrong.parameters())[-1][3] -= 100  # nothing is a three any more
    after = measure(family, wrong, panel, Run())
    three, eight = gone(["threes", "eights"], before, after, after)
    assert (three.request, eight.request) == ("threes", "eights")
    assert three.before > 0.5
    assert three.after < 0.01
    assert eight.figure == "mean probability of the right answer"
    assert not three.little
    unheard = dataclasses.replace(before, confidence=torch.full((2,), math.nan))
    assert gone(["t", "e"], unheard, unheard, after)[0].figure == "accuracy"
    assert [one.little for one in gone(["t", "e"], unheard, unheard, after)] == [True, False]
