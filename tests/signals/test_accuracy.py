"""Facts about accuracies and their intervals."""

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.signals import (
    FORGOTTEN_ACCURACY,
    FORGOTTEN_MARGIN,
    RETAINED_TOP_5,
    Signals,
    accuracy,
    accuracy_by_subject,
    binomial_interval,
    bootstrap_interval,
    mean_loss,
    mean_margin,
    top_k_accuracy,
)


def two_models() -> Signals:
    labels = torch.tensor([0, 0, 1, 2])
    perfect = torch.eye(3)[labels]
    last = torch.eye(3)[torch.tensor([2, 2, 2, 2])] + torch.tensor([0.5, 0.0, 0.0])
    parts = [
        Signals.from_predictions(logits, labels, model=name, subjects=["a", "a", "b", "c"])
        for name, logits in (("perfect", perfect), ("always 2", last))
    ]
    return Signals.stacked(parts)


def test_accuracies_of_models_with_known_answers() -> None:
    found = two_models()
    assert accuracy(found).tolist() == [1.0, 0.25]
    assert top_k_accuracy(found, 2).tolist() == [1.0, 0.75]
    assert top_k_accuracy(found, 3).tolist() == [1.0, 1.0]


def test_accuracy_by_subject_averages_to_the_accuracy() -> None:
    found = two_models()
    shares = accuracy_by_subject(found)
    assert {name: share.tolist() for name, share in shares.items()} == {
        "a": [1.0, 0.0],
        "b": [1.0, 0.0],
        "c": [1.0, 1.0],
    }
    total = (2 * shares["a"] + shares["b"] + shares["c"]) / 4
    torch.testing.assert_close(total, accuracy(found))


def test_mean_margin_falls_and_loss_rises_with_wrong_answers() -> None:
    found = two_models()
    assert mean_margin(found)[0] > mean_margin(found)[1]
    assert mean_loss(found)[0] < mean_loss(found)[1]


def test_chance_levels() -> None:
    assert FORGOTTEN_ACCURACY.chance(10) == 0.1
    assert RETAINED_TOP_5.chance(10) == 0.5
    assert RETAINED_TOP_5.chance(3) == 1.0
    assert FORGOTTEN_MARGIN.chance(10) is None
    assert FORGOTTEN_ACCURACY.direction == "closer to the oracle"


def test_wilson_interval_has_its_known_values() -> None:
    half = binomial_interval(5, 10)
    assert (half.low, half.high) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    none = binomial_interval(0, 10)
    assert none.low == 0.0
    assert none.high == pytest.approx(0.27753, abs=1e-5)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ExpungeError, match="binomial interval"):
        binomial_interval(successes, trials)


def test_copies_of_a_picture_do_not_narrow_the_interval() -> None:
    values = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    names = list("abcdef")
    once = bootstrap_interval(values, names)
    copied = bootstrap_interval(values.repeat_interleave(50), [n for n in names for _ in range(50)])
    alone = bootstrap_interval(values.repeat_interleave(50), [str(i) for i in range(300)])
    assert copied == once
    assert alone.high - alone.low < 0.3 * (once.high - once.low)


def test_bootstrap_approaches_the_normal_interval_of_independent_samples() -> None:
    values = torch.arange(400) % 2
    found = bootstrap_interval(values.float(), [str(i) for i in range(400)], draws=4000)
    assert (found.low, found.high) == pytest.approx((0.451, 0.549), abs=0.006)


def test_the_same_seed_gives_the_same_interval_and_a_constant_no_width() -> None:
    values, names = [0.2, 0.4, 0.9], ["a", "b", "c"]
    assert bootstrap_interval(values, names, seed=3) == bootstrap_interval(values, names, seed=3)
    constant = bootstrap_interval([0.5, 0.5], ["a", "b"])
    assert (constant.low, constant.high) == (0.5, 0.5)


def test_one_group_a_wrong_level_and_nan_are_refused() -> None:
    with pytest.raises(ExpungeError, match="1 groups"):
        bootstrap_interval([0.0, 1.0], ["a", "a"])
    with pytest.raises(ExpungeError, match=r"level 95"):
        bootstrap_interval([0.0, 1.0], ["a", "b"], level=95)
    with pytest.raises(ExpungeError, match="NaN"):
        bootstrap_interval([0.0, float("nan")], ["a", "b"])
