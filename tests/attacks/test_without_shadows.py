"""Facts about the attacks that need no shadow models: loss, entropy, population."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from expunge.attacks import (
    Shadows,
    Target,
    entropy_attack,
    loss_attack,
    modified_entropy_attack,
    population_attack,
)
from expunge.errors import ExpungeError
from expunge.signals import Predictions, Roc, Signals

Normals = Callable[..., tuple[Target, Shadows, Tensor]]


def ids(count: int) -> tuple[str, ...]:
    return tuple(f"row:{i}" for i in range(count))


def target_of(*margins: float) -> Target:
    values = torch.tensor(margins, dtype=torch.float64).unsqueeze(1)
    return Target(values, ids(len(margins)))


def three_answers(model: str = "m") -> Predictions:
    """Sure and right, unsure, sure and wrong."""
    logits = torch.tensor([[8.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 8.0, 0.0]])
    return Predictions.of(logits, torch.zeros(3, dtype=torch.int64), model=model)


def test_a_larger_margin_is_likelier_a_member() -> None:
    scores = loss_attack(target_of(-900, -1, 0, 5, 60, 200))
    assert bool((scores.diff() > 0).all())
    assert bool((scores <= 0).all())


def test_the_loss_attack_is_minus_the_loss() -> None:
    predictions = three_answers()
    target = Target.of(predictions.signals())
    torch.testing.assert_close(
        loss_attack(target).float(), -predictions.signals().query("loss")[0], atol=1e-6, rtol=1e-5
    )


def test_a_surer_answer_is_likelier_a_member() -> None:
    right, unsure, wrong = entropy_attack(three_answers()).tolist()
    assert right == pytest.approx(wrong)
    assert unsure < right
    right, unsure, wrong = modified_entropy_attack(three_answers()).tolist()
    assert right > unsure > wrong
    with pytest.raises(ExpungeError, match="2 models"):
        entropy_attack(Predictions.stacked([three_answers("a"), three_answers("b")]))


def test_population_scores_are_shares_of_the_own_class() -> None:
    target = target_of(1, 2, 3, 100, 200, 2.5, 150)
    labels = torch.tensor([0, 0, 0, 1, 1, 0, 1])
    others = torch.tensor([True, True, True, True, True, False, False])
    scores = population_attack(target, labels, others, least=2)
    assert scores.tolist() == pytest.approx([0, 0.5, 1, 0, 1, 2 / 3, 0.5])


def test_population_scores_of_non_members_are_fair() -> None:
    """Members like non-members score as these do, however small the class."""
    drawn = torch.Generator().manual_seed(0)
    count = 20_000
    target = Target(torch.randn(count, 1, generator=drawn, dtype=torch.float64), ids(count))
    labels = torch.arange(count) // 8
    others = torch.arange(count) % 2 == 0
    scores = population_attack(target, labels, others, least=4)
    assert float(scores[others].mean()) == pytest.approx(0.5, abs=1e-9)
    assert float(scores[~others].mean()) == pytest.approx(0.5, abs=0.02)


def test_the_class_takes_away_what_makes_classes_differ(known_normals: Normals) -> None:
    target, _, member = known_normals(2, 4000, 1.0, spread=0.0)
    labels = torch.arange(4000) % 10
    shifted = Target(target.margins + 10.0 * labels.unsqueeze(1), target.samples)
    by_class = Roc.of(population_attack(shifted, labels, ~member), member).auc
    assert by_class == pytest.approx(0.76, abs=0.02)
    assert Roc.of(loss_attack(shifted), member).auc < 0.6


def test_a_class_with_too_few_non_members_is_refused() -> None:
    target = target_of(*range(30))
    labels = torch.arange(30) // 15
    others = torch.arange(30) < 24
    population_attack(target, labels, others, least=9)
    with pytest.raises(ExpungeError, match="9 non-members of class 1; at least 10"):
        population_attack(target, labels, others)
    with pytest.raises(ExpungeError, match="labels"):
        population_attack(target, labels[1:], others)
    with pytest.raises(ExpungeError, match="one bool"):
        population_attack(target, labels, others.long())


def test_signals_with_an_impossible_class_are_refused() -> None:
    logits = torch.tensor([[0.0, float("-inf")], [0.0, 1.0]])
    signals = Signals.from_predictions(logits, torch.tensor([1, 0]))
    with pytest.raises(ExpungeError, match="-inf"):
        Target.of(signals)
