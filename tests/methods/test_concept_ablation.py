"""Concept ablation: its pictures, its two teachers, and where it leads."""

from dataclasses import replace

import pytest
import torch
from tests.methods.known_drawings import FAMILY, FISH, SENTENCES, model, problem, seen

from expunge.changes.delta import Delta
from expunge.changes.weights import digest_of, parameters_of
from expunge.errors import ExpungeError
from expunge.methods.concept_ablation import ConceptAblation
from expunge.methods.protocol import unlearn
from expunge.run import Run

SHORT = ConceptAblation(steps=2, learning_rate=1e-3, pictures=8, sampler_steps=4)


def test_pictures_of_the_anchor_are_the_models_own() -> None:
    found = SHORT.drawn(problem(), Run()).columns
    assert found["image"].shape == (8, 3, 8, 8)
    assert bool(FAMILY.speaking(found["prompt"], "heart").all())
    assert bool(FAMILY.speaking(found["instead"], "fish").all())
    assert torch.equal(FAMILY.exchanged(found["instead"], "fish", "heart"), found["prompt"])
    again = SHORT.drawn(problem(), Run()).columns["image"]
    assert torch.equal(found["image"], again)
    assert not torch.equal(found["image"], SHORT.drawn(problem(), Run(1)).columns["image"])


def test_keys_and_values_of_the_attention_to_the_text_move_alone() -> None:
    [change] = unlearn(SHORT, problem(), Run()).changes
    assert isinstance(change, Delta)
    changed = {name for name in change.entries if bool(change.dense(name).any())}
    assert changed == {
        n for n in parameters_of(model()) if ".attn2.to_k" in n or ".attn2.to_v" in n
    }


def test_the_first_step_is_the_same_under_both_teachers_and_the_second_is_not() -> None:
    at = problem()
    for steps, same in ((1, True), (4, False)):
        found = [
            digest_of(
                unlearn(replace(SHORT, steps=steps, frozen=frozen), at, Run()).applied_to(at.model)
            )
            for frozen in (True, False)
        ]
        assert (found[0] == found[1]) == same


def test_told_the_target_it_comes_to_see_the_anchor() -> None:
    at, texts = problem(), [*SENTENCES]
    method = ConceptAblation(40, 4e-4, 8, 32, 0.0, frozen=True, sampler_steps=6)
    after = unlearn(method, at, Run()).applied_to(at.model)
    before, found = seen(at.model, texts), seen(after, texts)
    anchor = seen(at.model, [text.replace("fish", "heart") for text in texts])
    target = torch.tensor(["fish" in text for text in texts])
    to_go = (before - anchor)[target].square().mean()
    assert float((found - anchor)[target].square().mean()) < 0.6 * float(to_go)
    went = (found - before).square().flatten(1).mean(1)
    assert float(went[target].mean()) > float(went[~target].mean())


def test_a_prior_of_zero_leaves_the_other_term_as_it_is_and_more_does_not() -> None:
    at = problem()
    found = [
        digest_of(unlearn(replace(SHORT, prior=prior), at, Run()).applied_to(at.model))
        for prior in (0.0, 1.0)
    ]
    assert found[0] != found[1]


def test_what_it_refuses() -> None:
    with pytest.raises(ExpungeError, match="names no anchor"):
        unlearn(SHORT, problem(replace(FISH, anchor=None)), Run())
    with pytest.raises(ExpungeError, match="The anchor is 'fish'"):
        unlearn(SHORT, problem(replace(FISH, anchor="fish")), Run())
    with pytest.raises(ExpungeError, match="at least one picture"):
        ConceptAblation(pictures=0)


def test_prompts_are_all_that_it_opens() -> None:
    assert SHORT.unlearns_with.describe() == "prompts (prompt)"
    assert ConceptAblation().learning_rate == pytest.approx(2e-6 * 4 * 2)
