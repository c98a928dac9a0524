"""Facts about predictions: what they hold, how they are selected, and what is refused."""

import pytest
import torch
from torch import nn

from expunge.benchmarks.shipped import Work
from expunge.errors import ExpungeError
from expunge.families.regressor import Regressor
from expunge.run import Run
from expunge.signals import Predictions, Signals
from expunge.signals.ask import ask, predict

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 2.0]])
LABELS = torch.tensor([0, 1, 0])


def predictions(model: str = "model") -> Predictions:
    return Predictions.of(LOGITS, LABELS, model=model, samples=["a", "b", "c"])


def test_signals_follow_from_the_predictions_of_one_question(
    digits_work: Work, digits_model: nn.Module
) -> None:
    family, rows = digits_work.recipe.family, digits_work.test
    found = predict(family, digits_model, rows, Run(), "digits")
    asked = ask(family, digits_model, rows, Run(), "digits")
    assert torch.equal(found.signals().values, asked.values)
    assert found.signals().samples == asked.samples == tuple(rows.ids)
    assert found.signals().subjects == asked.subjects


def test_stacked_models_keep_their_signals_and_can_be_taken_apart() -> None:
    both = Predictions.stacked([predictions("before"), predictions("after")])
    alone = Signals.from_predictions(LOGITS, LABELS, samples=["a", "b", "c"])
    assert both.signals().models == ("before", "after")
    assert torch.equal(both.signals().values[1], alone.values[0])
    assert torch.equal(both.of_models(["after"]).logits[0], LOGITS)


def test_selection_keeps_labels_and_logits_together() -> None:
    found = predictions().of_samples(["c", "b"])
    assert (found.samples, found.subjects) == (("c", "b"), ("0", "1"))
    assert found.labels.tolist() == [0, 1]
    assert torch.equal(found.logits[0], LOGITS[[2, 1]])


def test_probabilities_sum_to_one_and_equal_scores_give_the_first_class() -> None:
    found = Predictions.of(torch.tensor([[5.0, 5.0, -torch.inf]]), torch.tensor([1]))
    assert found.probabilities().tolist() == [[[0.5, 0.5, 0.0]]]
    assert found.answers().tolist() == [[0]]


def test_wrong_predictions_are_refused() -> None:
    with pytest.raises(ExpungeError, match="labels from 0 to 3"):
        Predictions.of(LOGITS, torch.tensor([0, 1, 3]))
    with pytest.raises(ExpungeError, match=r"labels of shape \(3, 1\)"):
        Predictions.of(LOGITS, LABELS[:, None])
    with pytest.raises(ExpungeError, match=r"NaN or \+inf"):
        Predictions.of(LOGITS / 0, LABELS)
    with pytest.raises(ExpungeError, match="-inf for every class"):
        Predictions.of(torch.full((1, 2), -torch.inf), torch.tensor([0]))
    with pytest.raises(ExpungeError, match="'a' twice"):
        Predictions.of(LOGITS, LABELS, samples=["a", "a", "b"])
    with pytest.raises(ExpungeError, match="1 models and 2 samples"):
        Predictions.of(LOGITS, LABELS, samples=["a", "b"])
    with pytest.raises(ExpungeError, match="no sample 'z'"):
        predictions().of_samples(["z"])
    with pytest.raises(ExpungeError, match="differ in their samples"):
        Predictions.stacked([predictions("x"), predictions("y").of_samples("ba")])
    with pytest.raises(ExpungeError, match="lacks HasLogits"):
        predict(Regressor(), nn.Identity(), None, Run())  # type: ignore[arg-type]
