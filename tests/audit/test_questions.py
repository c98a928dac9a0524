"""The questions of an audit, on the digits with a class removed, without training references."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from expunge.audit.audit import Audit
from expunge.audit.beside import Beside
from expunge.audit.inquiry import Level
from expunge.audit.policy import Policy
from expunge.audit.removal import CLIP, Removal, answers_of, margins_of
from expunge.audit.self_test import FORGOTTEN, Noisy, Refusing, World, class_removed
from expunge.audit.unlearned import _half_of
from expunge.audit.verdict import Result
from expunge.changes.weights import with_weights
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.learning.population import halves

PASS, FAIL, UNKNOWN = Result.PASS, Result.FAIL, Result.UNKNOWN


@pytest.fixture(scope="module")
def quick(removal: Removal) -> Audit:
    return Audit.of(removal, level=Level.QUICK)


def model(world: World, name: str) -> nn.Module:
    return next(known.model for known in world.models if known.name == name)


def test_without_an_oracle_chance_stands_for_it_and_that_is_said(
    quick: Audit, world: World
) -> None:
    found = quick.ask(model(world, "original")).verdict("forgotten")
    assert found.result is FAIL
    assert found.evidence[0].against == "chance"
    assert "no oracle" in found.notes[0]
    oracle = quick.ask(model(world, "oracle"))
    assert oracle.verdict("forgotten").result is PASS
    assert oracle.verdict("stays forgotten").result is UNKNOWN
    assert oracle.result is UNKNOWN


def test_a_guard_is_found_without_any_training(quick: Audit, world: World) -> None:
    found = quick.ask(model(world, "guard that refuses"))
    assert found.verdict("forgotten").result is PASS
    deleted = found.verdict("deleted or suppressed")
    assert deleted.result is FAIL
    assert "Refusing" in deleted.reason


def test_noise_is_averaged_away(removal: Removal, world: World) -> None:
    noisy = answers_of(removal, Noisy(removal.before, FORGOTTEN), 32)
    assert noisy.asks == 32
    once, often = (margins_of(rows).mean() for rows in (noisy.once_forget, noisy.forget))
    assert often > once
    assert answers_of(removal, removal.before, 32).asks == 1


def test_a_class_that_a_guard_rules_out_has_a_finite_margin(removal: Removal) -> None:
    class Masking(Refusing):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.guarded(images).clone()
            logits[:, self.label] = float("-inf")
            return logits

    found = answers_of(removal, Masking(removal.before, FORGOTTEN), 2)
    assert float(margins_of(found.forget).max()) == -CLIP


def test_too_few_rows_are_counted_and_what_is_missing_is_said(quick: Audit, world: World) -> None:
    few = quick.removal.forget.select(torch.arange(10))
    audit = Audit.of(replace(quick.removal, forget=few), level=Level.QUICK)
    found = audit.ask(model(world, "oracle")).verdict("private")
    assert found.result is UNKNOWN
    assert "are missing" in found.missing[0]
    lenient = Policy.of({"private": {"apart": 0.4}})
    audit = Audit.of(audit.removal, lenient, Level.QUICK)
    assert audit.ask(model(world, "oracle")).verdict("private").result is PASS


def test_only_the_questions_of_the_policy_are_asked(removal: Removal, world: World) -> None:
    policy = Policy.of({"questions": ["kept", "forgotten"]})
    found = Audit.of(removal, policy, Level.QUICK).ask(model(world, "oracle"))
    assert [verdict.question for verdict in found.verdicts] == ["kept", "forgotten"]
    assert found.result is PASS


def test_exact_copies_are_found_without_a_table(removal: Removal, world: World) -> None:
    forget, retain = removal.forget, removal.retain
    assert isinstance(forget, TensorSamples)
    assert isinstance(retain, TensorSamples)
    columns = {n: c.clone() for n, c in retain.columns.items()}
    columns["image"][0] = forget.columns["image"][0]
    planted = TensorSamples(retain.ids, retain.subjects, columns)
    policy = Policy.of({"questions": ["duplicates left"]})
    for rows, expected in ((planted, FAIL), (retain, PASS)):
        bare = replace(removal, retain=rows, searched=None)
        assert Audit.of(bare, policy, Level.QUICK).ask(removal.before).result is expected


def test_a_model_that_is_not_finite_is_refused_in_one_sentence(
    quick: Audit, removal: Removal
) -> None:
    broken = with_weights(
        removal.before,
        {n: torch.full_like(p, torch.nan) for n, p in removal.before.named_parameters()},
    )
    with pytest.raises(ExpungeError, match="NaN") as refused:
        quick.ask(broken)
    assert "\n" not in str(refused.value)


def test_fewer_than_two_rows_or_a_row_in_two_sets_are_refused(removal: Removal) -> None:
    with pytest.raises(ExpungeError, match="got 1 forget rows; at least 2"):
        replace(removal, forget=removal.forget.select(torch.arange(1)))
    with pytest.raises(ExpungeError, match="in the forget set and in the retain set"):
        replace(removal, retain=removal.forget)


def test_an_audit_changes_no_model(quick: Audit, removal: Removal) -> None:
    before = copy.deepcopy(removal.before.state_dict())
    modes = [part.training for part in removal.before.modules()]
    quick.ask(removal.before)
    assert all(torch.equal(before[n], t) for n, t in removal.before.state_dict().items())
    assert [part.training for part in removal.before.modules()] == modes


def test_one_more_oracle_is_inside_the_interval_as_often_as_it_says() -> None:
    draws = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)).double()
    inside = 0
    for *known, new in draws.tolist():
        beside = Beside.of(known, 0.9)
        inside += abs(new - beside.mean) <= beside.half_width
    assert inside / len(draws) == pytest.approx(0.9, abs=0.015)


def test_a_spread_is_no_wider_than_it_can_be_and_one_oracle_has_none() -> None:
    wide = Beside.of([0.0, 1.0, 0.5], 0.99)
    assert wide.allowed(0.1) > 1
    assert wide.allowed(0.1, widest=0.2) == 0.2
    assert Beside.of([0.3], 0.99).allowed(0.1) == 0.1
    with pytest.raises(ExpungeError, match="diverged"):
        Beside.of([float("nan")], 0.99)


@pytest.mark.slow
def test_populations_say_that_a_method_which_does_nothing_removed_nothing() -> None:
    few = class_removed(0)
    recipe = few.audit.removal.recipe
    assert recipe is not None
    short = replace(recipe, learner=replace(recipe.learner, epochs=6))  # type: ignore[type-var]
    removal = replace(few.audit.removal, recipe=short, unlearner=lambda before, *_: before)
    policy = Policy.of({"questions": ["private"]})
    audit = Audit.of(removal, policy, Level.ADVERSARIAL, engine="stacked")
    (verdict,) = audit.ask(removal.before).verdicts
    found = {item.name: item for item in verdict.evidence}
    assert found["KLoM, 95th percentile, forget rows"].result is FAIL
    assert found["forgotten rows outside the oracles' range"].result is FAIL
    assert found["KLoM, 95th percentile, retain rows"].result is PASS
    assert len(found["KLoM, 95th percentile, forget rows"].details["values"]) == len(removal.forget)
    (verdict,) = audit.ask(audit.references.models[0]).verdicts
    outside = {item.name: item for item in verdict.evidence}
    assert outside["forgotten rows outside the oracles' range"].result is PASS
    assert "AUC of the U-LiRA" in outside


def test_half_of_the_members_of_every_row_forget_it() -> None:
    member = halves(20, 50, seed=0)
    forgotten = _half_of(member, torch.Generator().manual_seed(0))
    assert not bool((forgotten & ~member).any())
    assert forgotten.sum(0).tolist() == [5] * 50
