"""The self-test: what must come out does, and an audit that is fooled is found out."""

import json
from dataclasses import replace

import pytest

from expunge.audit.policy import QUESTIONS, Policy
from expunge.audit.self_test import (
    EVERY_PASS,
    Known,
    SelfTest,
    class_removed,
    judged,
    one_of_three_copies,
    self_test,
)
from expunge.audit.verdict import Result


def test_a_copy_that_nobody_named_is_found() -> None:
    world = one_of_three_copies(0, Policy.of({"questions": ["duplicates left"]}))
    found = world.audit.ask(world.models[0].model).verdict("duplicates left")
    assert found.result is Result.FAIL
    copies = {copy["id"] for copy in found.evidence[0].details["copies"]}
    assert copies >= {f"{name}#{k}" for name in world.audit.removal.forget.ids for k in (1, 2)}


@pytest.mark.slow
def test_everything_comes_out_as_it_must() -> None:
    found = self_test([0])
    assert [row.broken for row in found.rows] == [()] * len(found.rows)
    assert found.passed
    content = json.loads(json.dumps(found.to_json()))
    assert content["confusion"]["oracle"] == {
        question: {"pass": 1, "fail": 0, "not enough evidence": 0} for question in QUESTIONS
    }


@pytest.mark.slow
def test_an_original_that_is_called_an_oracle_breaks_the_self_test() -> None:
    world = class_removed(0)
    original = replace(world.models[0], must=EVERY_PASS)
    row = judged(world, original, 0)
    assert not SelfTest((row,)).passed
    assert any("forgotten must be pass" in sentence for sentence in row.broken)
    assert isinstance(original, Known)
