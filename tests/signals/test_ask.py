"""Asking leaves the model as it was."""

import pytest
import torch
from torch import nn

from expunge.data.samples import TensorSamples
from expunge.families.classifier import Classifier
from expunge.run import Run, on_device
from expunge.signals.ask import logits_of

ROWS = TensorSamples(
    ["a", "b"], ["a", "b"], {"image": torch.ones(2, 3), "label": torch.tensor([0, 1])}
)


def mixed() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    model.train()
    model[1].eval()
    return model


def test_every_submodule_keeps_its_mode() -> None:
    model = mixed()
    before = [module.training for module in model.modules()]
    first, second = (logits_of(Classifier(), model, ROWS, Run())[0] for _ in range(2))
    assert torch.equal(first, second)  # asked in evaluation mode
    assert [module.training for module in model.modules()] == before


def test_modes_are_put_back_after_an_error_too() -> None:
    model = mixed()
    before = [module.training for module in model.modules()]
    with pytest.raises(KeyError):
        logits_of(Classifier(("absent",)), model, ROWS, Run())
    assert [module.training for module in model.modules()] == before


def test_a_model_elsewhere_is_copied_and_stays_where_it_is() -> None:
    model = mixed()
    assert on_device(model, Run()) is model
    elsewhere = Run(device="meta")
    assert {p.device.type for p in on_device(model, elsewhere).parameters()} == {"meta"}
    with pytest.raises(NotImplementedError):  # a meta tensor has no content to bring back
        logits_of(Classifier(), model, ROWS, elsewhere)
    assert {p.device.type for p in model.parameters()} == {"cpu"}
