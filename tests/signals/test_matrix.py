"""Facts about signals: margins, losses, ranks, selection, and what is refused."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from expunge.errors import ExpungeError
from expunge.signals import Signals

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 2.0], [0.0, 5.0, 1.0]])
LABELS = torch.tensor([0, 1, 0, 2])


def signals(**names: object) -> Signals:
    return Signals.from_predictions(
        LOGITS,
        LABELS,
        samples=["a", "b", "c", "d"],
        subjects=["cat", "dog", "cat", "eel"],
        **names,  # type: ignore[arg-type]
    )


def test_margin_is_the_log_odds_of_the_true_class() -> None:
    probability = LOGITS.softmax(1).gather(1, LABELS[:, None])[:, 0]
    expected = (probability / (1 - probability)).log()
    torch.testing.assert_close(signals().query("margin")[0], expected)


def test_loss_is_the_cross_entropy_also_where_the_model_is_certain() -> None:
    logits = torch.tensor([[80.0, 0.0], [0.0, 80.0], [1.0, 0.5]])
    labels = torch.tensor([0, 0, 1])
    loss = Signals.from_predictions(logits, labels).query("loss")[0]
    torch.testing.assert_close(loss, cross_entropy(logits, labels, reduction="none"))


def test_margins_of_certain_answers_do_not_saturate() -> None:
    logits = torch.tensor([[100.0, 0.0], [200.0, 0.0]])
    margin = Signals.from_predictions(logits, torch.tensor([0, 0])).query("margin")[0]
    assert margin.tolist() == [100.0, 200.0]


def test_rank_agrees_with_argmax_and_top_k_also_at_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 3, (200, 8), generator=generator).float()
    labels = torch.randint(0, 8, (200,), generator=generator)
    found = Signals.from_predictions(logits, labels)
    assert torch.equal(found.query("correct")[0].bool(), logits.argmax(1) == labels)
    order = logits.argsort(dim=1, descending=True, stable=True)
    assert torch.equal(found.query("top-5")[0].bool(), (order[:, :5] == labels[:, None]).any(1))


def test_a_model_that_answers_the_same_to_everything_knows_one_class_only() -> None:
    found = Signals.from_predictions(torch.zeros(4, 4), torch.arange(4))
    assert found.query("correct")[0].tolist() == [1, 0, 0, 0]


def test_a_class_that_the_model_cannot_give_has_no_odds() -> None:
    found = Signals.from_predictions(torch.tensor([[-torch.inf, 1.0]]), torch.tensor([0]))
    assert found.query("margin").item() == -torch.inf
    assert found.query("loss").item() == torch.inf


def test_selection_keeps_names_and_values_together() -> None:
    found = signals()
    assert found.of_samples(["d", "a"]).samples == ("d", "a")
    assert torch.equal(found.of_samples(["d", "a"]).values, found.values[:, [3, 0]])
    assert found.of_subjects(["eel", "cat"]).samples == ("a", "c", "d")
    assert found.without_subjects(["cat"]).subjects == ("dog", "eel")


def test_stacked_models_can_be_taken_apart_again() -> None:
    before, after = signals(model="before"), signals(model="after")
    both = Signals.stacked([before, after])
    assert both.values.shape == (2, 4, 5)
    assert torch.equal(both.of_models(["after"]).values, after.values)


def test_subjects_are_the_labels_by_default() -> None:
    assert Signals.from_predictions(LOGITS, LABELS).subjects == ("0", "1", "0", "2")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_inf_are_refused(bad: float) -> None:
    logits = LOGITS.clone()
    logits[1, 2] = bad
    with pytest.raises(ExpungeError, match=r"NaN or \+inf"):
        Signals.from_predictions(logits, LABELS)


def test_nan_among_values_is_refused_with_its_place() -> None:
    values = torch.zeros(1, 2, 1)
    values[0, 1, 0] = torch.nan
    with pytest.raises(ExpungeError, match="NaN for 'margin' of sample 'b' under model 'm'"):
        Signals(values, ("m",), ("a", "b"), ("margin",), ("x", "y"))


def test_no_sample_is_refused() -> None:
    with pytest.raises(ExpungeError, match="no sample"):
        Signals.from_predictions(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ExpungeError, match="0 samples"):
        signals().without_subjects(["cat", "dog", "eel"])


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 3, 2]), torch.tensor([0.0, 1, 0, 2])])
def test_labels_outside_the_columns_are_refused(labels: torch.Tensor) -> None:
    with pytest.raises(ExpungeError, match="labels from 0"):
        Signals.from_predictions(LOGITS, labels)


def test_repeated_and_unknown_names_are_refused() -> None:
    with pytest.raises(ExpungeError, match="'a' twice"):
        Signals.from_predictions(LOGITS, LABELS, samples=["a", "a", "c", "d"])
    with pytest.raises(ExpungeError, match="no subject 'fox'"):
        signals().of_subjects(["fox"])
    with pytest.raises(ExpungeError, match="no query 'entropy'"):
        signals().query("entropy")


def test_models_asked_for_other_samples_are_not_stacked() -> None:
    with pytest.raises(ExpungeError, match="differ in their samples"):
        Signals.stacked([signals(model="before"), signals(model="after").of_samples("ab")])
