"""Facts about attacks on the difference of a model before and after a removal."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from expunge.attacks import Target, logit_change, margin_change, margin_drop, margin_drop_of
from expunge.errors import ExpungeError
from expunge.signals import Predictions, Roc

COUNT = 3000


def removal(own: float, everyone: float = 0.0) -> tuple[Predictions, Predictions, Tensor, Tensor]:
    """Before, after, the removed and the non-members: a removal moves the own class by ``own``.

    ``everyone`` moves one direction of the logits of all samples.
    """
    drawn = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (COUNT,), generator=drawn)
    logits = 3 * torch.randn(COUNT, 5, generator=drawn)
    part = torch.randint(3, (COUNT,), generator=drawn)
    removed, others = part == 0, part == 1
    moved = own * removed.float().unsqueeze(1) * torch.nn.functional.one_hot(labels, 5)
    shift = everyone * torch.tensor([1.0, 0, 0, 0, -1.0])
    noise = 0.5 * torch.randn(COUNT, 5, generator=drawn)
    before = Predictions.of(logits, labels, model="before")
    after = Predictions.of(logits + moved + shift + noise, labels, model="after")
    return before, after, removed, others


def targets(before: Predictions, after: Predictions) -> tuple[Target, Target]:
    return Target.of(before.signals()), Target.of(after.signals())


def test_a_removed_sample_loses_its_margin() -> None:
    before, after, removed, others = removal(own=-2.0)
    scores = margin_drop(*targets(before, after))
    assert Roc(scores[removed], scores[others]).auc > 0.9
    first = before.signals().query("margin")[0] - after.signals().query("margin")[0]
    torch.testing.assert_close(scores.float(), first, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("own", [-2.0, 2.0])
def test_a_change_either_way_is_seen(own: float) -> None:
    before, after, removed, others = removal(own)
    for scores in (
        margin_change(*targets(before, after), others),
        logit_change(before, after, others),
    ):
        assert Roc(scores[removed], scores[others]).auc > 0.8


def test_a_removal_that_moves_nothing_of_its_own_shows_nothing() -> None:
    before, after, removed, others = removal(own=0.0, everyone=1.0)
    for scores in (
        margin_drop(*targets(before, after)),
        margin_change(*targets(before, after), others),
        logit_change(before, after, others),
    ):
        assert Roc(scores[removed], scores[others]).auc == pytest.approx(0.5, abs=0.05)


def test_what_moves_everyone_is_taken_off() -> None:
    before, after, _, others = removal(own=-2.0)
    shifted = removal(own=-2.0, everyone=30.0)[1]
    torch.testing.assert_close(
        logit_change(before, shifted, others),
        logit_change(before, after, others),
        atol=1e-4,
        rtol=1e-4,
    )


def test_adding_a_number_to_all_logits_is_no_change() -> None:
    before, after, _, others = removal(own=-2.0)
    raised = replace(after, logits=after.logits + torch.arange(COUNT).reshape(1, -1, 1) / 8)
    torch.testing.assert_close(
        logit_change(before, raised, others),
        logit_change(before, after, others),
        atol=1e-3,
        rtol=1e-4,
    )


def test_a_non_member_is_held_against_the_other_ones() -> None:
    samples = ("a", "b", "c", "d")
    before = Target(torch.tensor([[4.0], [1.0], [2.0], [9.0]], dtype=torch.float64), samples)
    after = Target(torch.zeros(4, 1, dtype=torch.float64), samples)
    found = margin_change(before, after, torch.tensor([True, True, True, False]))
    assert found.tolist() == pytest.approx([2.5, 2.0, 0.5, 9 - 7 / 3])
    assert margin_drop_of(before, after).margins.tolist() == [[4], [1], [2], [9]]


def test_a_masked_class_is_left_out() -> None:
    before, after, _, others = removal(own=-2.0)
    column = torch.full((1, COUNT, 1), -torch.inf)
    masked = [replace(p, logits=torch.cat([p.logits, column], 2)) for p in (before, after)]
    torch.testing.assert_close(
        logit_change(masked[0], masked[1], others), logit_change(before, after, others)
    )
    open_class = replace(masked[1], logits=masked[1].logits.clamp(min=-50))
    with pytest.raises(ExpungeError, match="-inf"):
        logit_change(masked[0], open_class, others)


def test_bad_input_is_refused() -> None:
    before, after, _, others = removal(own=-2.0)
    first, second = targets(before, after)
    with pytest.raises(ExpungeError, match="in one only"):
        margin_drop(first, second.of_samples(second.samples[1:]))
    with pytest.raises(ExpungeError, match="differ in their samples"):
        logit_change(before, after.at(range(COUNT - 1)), others)
    with pytest.raises(ExpungeError, match="2 models before"):
        logit_change(Predictions.stacked([before, after]), after, others)
    with pytest.raises(ExpungeError, match="1 non-members"):
        margin_change(first, second, torch.arange(COUNT) == 4)
    with pytest.raises(ExpungeError, match="one bool"):
        margin_change(first, second, others[1:])
