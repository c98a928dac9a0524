"""Embeddings: what the head reads, in every family that has one."""

import copy

import pytest
import torch
from torch import nn

from expunge.benchmarks.shipped import Work, digits_dual_encoder
from expunge.errors import ExpungeError
from expunge.families.abilities import HasEmbeddings, able
from expunge.families.classifier import Classifier
from expunge.families.dual_encoder import TwoTowers
from expunge.families.heads import NoEmbeddingError, embeddings_of, head_of
from expunge.families.regressor import Regressor
from expunge.learning.sharded.ensemble import ShardEnsemble
from expunge.recipe import Role
from expunge.run import Run


def test_the_head_makes_the_logits_of_the_embeddings(
    digits_work: Work, digits_model: nn.Module
) -> None:
    family, rows = Classifier(classes=10), digits_work.data[Role.TRAIN].select(torch.arange(40))
    batch = rows.batch(torch.arange(40))
    name, head = head_of(digits_model)
    with torch.no_grad():
        found = family.embeddings(digits_model, batch)
        assert torch.equal(head(found), family.logits(digits_model, batch))
    assert name == "layers.5"
    assert found.shape == (40, 96)
    assert torch.equal(embeddings_of(family, digits_model, rows, Run()), found)
    assert not any(module._forward_hooks for module in digits_model.modules())


def test_a_regressor_has_a_head_too(digits_work: Work) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 1))
    batch = digits_work.data[Role.TRAIN].batch(torch.arange(8))
    family = Regressor()
    found = family.embeddings(model, batch)
    assert torch.equal(model[3](found), family.outputs(model, batch))


def test_the_prompts_are_the_head_of_a_dual_encoder() -> None:
    work = digits_dual_encoder()
    model, batch = work.recipe.builder(0), work.data[Role.TRAIN].batch(torch.arange(8))
    family = able(work.recipe.family, HasEmbeddings)
    with torch.no_grad():
        found = family.embeddings(model, batch)
        assert isinstance(model, TwoTowers)
        scale = model.logit_scale.exp()
        logits = scale * found @ model.text_features().T
        assert torch.allclose(logits, work.recipe.family.logits(model, batch))  # type: ignore[attr-defined]


def test_what_has_no_head_is_refused(digits_work: Work) -> None:
    family, rows = Classifier(classes=10), digits_work.data[Role.TRAIN].select(torch.arange(4))
    with pytest.raises(ExpungeError, match="no linear layer"):
        embeddings_of(family, nn.Sequential(nn.Flatten(), nn.Softmax(1)), rows, Run())
    bent = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))
    with pytest.raises(ExpungeError, match="ends in a linear layer"):
        embeddings_of(family, bent, rows, Run())
    with pytest.raises(ExpungeError, match="No row was given to embed"):
        embeddings_of(family, bent, rows.select(torch.arange(0)), Run())


def test_a_model_that_diverged_is_not_called_another_architecture(
    digits_work: Work, digits_model: nn.Module
) -> None:
    family, rows = Classifier(classes=10), digits_work.data[Role.TRAIN].select(torch.arange(4))
    broken = copy.deepcopy(digits_model)
    next(broken.parameters()).data.fill_(torch.nan)
    with pytest.raises(ExpungeError, match=r"4 of 4 rows with NaN .* finite ones are expected"):
        embeddings_of(family, broken, rows, Run())


def test_members_whose_answers_are_averaged_have_no_head_in_common(
    digits_work: Work, digits_model: nn.Module
) -> None:
    """The last linear layer is that of the last member alone."""
    family, rows = Classifier(classes=10), digits_work.data[Role.TRAIN].select(torch.arange(4))
    both = ShardEnsemble([digits_model, copy.deepcopy(digits_model)], [])
    with pytest.raises(NoEmbeddingError, match="ends in a linear layer"):
        embeddings_of(family, both, rows, Run())
