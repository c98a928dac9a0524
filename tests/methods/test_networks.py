"""Methods for classifiers run unchanged on networks of every kind: convolutions with batch norm,
and image and text classifiers of transformers."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
import transformers
from datasets import Dataset
from tests.methods.fast_settings import FAST
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import digits_classifier_work
from expunge.changes.weights import digest_of, parameters_of
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.methods.lfssd import LFSSD
from expunge.models.resnet import ResNet18
from expunge.recipe import Recipe, Role
from expunge.requests import Named, Request, Rows
from expunge.run import Run
from expunge.signals import mean_loss
from expunge.signals.ask import ask

EIGHTS = Request("the eights", Rows("label", ("8",)))
COUNT = 200

METHODS = (
    "bad-teacher", "boundary-expand", "boundary-shrink", "cf-k", "eu-k", "fine-tune",
    "fisher-forgetting", "gradient-ascent", "gradient-difference", "influence", "l1-sparse",
    "l1-sparse-pruned", "lfssd", "random-label", "retrain", "salun", "scrub", "ssd", "unsir",
)  # fmt: skip
OF_PICTURES = {
    "boundary-shrink": "no field of real numbers",
    "unsir": "inputs that are real numbers",
}
"""Methods that move pixels, and why they refuse a text."""

RISES = ("gradient-ascent", "gradient-difference", "random-label", "salun", "ssd")
"""The loss on the forget rows is larger after each of these, whatever the network."""


def resnet(seed: int) -> nn.Module:
    return ResNet18(torch.Generator().manual_seed(seed), 4, 1)


def vit(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=8, patch_size=4, num_channels=1, num_labels=10,
    )  # fmt: skip
    made: nn.Module = transformers.ViTForImageClassification(config)
    return made


def bert(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=17, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, num_labels=10, max_position_embeddings=64,
    )  # fmt: skip
    made: nn.Module = transformers.BertForSequenceClassification(config)
    return made


def pixels(images: Tensor) -> dict[str, Tensor]:
    return {"pixel_values": images}


def words(images: Tensor) -> dict[str, Tensor]:
    """The pixels of the middle rows as words of seventeen shades."""
    ids = (images.flatten(1)[:, 16:48] * 16).long()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


Fields = Callable[[Tensor], dict[str, Tensor]]
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], Fields]] = {
    "resnet": (resnet, lambda images: {"image": images}),
    "vit": (vit, pixels),
    "bert": (bert, words),
}


@cache
def trained(network: str) -> tuple[Recipe, nn.Module, TensorSamples]:
    builder, fields = NETWORKS[network]
    every = digits_classifier_work().data[Role.TRAIN].select(torch.arange(COUNT))
    assert isinstance(every, TensorSamples)
    given = fields(every.columns["image"])
    rows = TensorSamples(every.ids, every.subjects, {**given, "label": every.columns["label"]})
    family = Classifier(tuple(given), 10)
    recipe = Recipe(builder, family, Plain(4, 32, AdamW(3e-3)))
    return recipe, recipe.make({Role.TRAIN: rows}, Run()).model, rows


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_method_runs_unchanged(network: str, name: str) -> None:
    method, (recipe, model, rows) = FAST[name], trained(network)
    whole = digits_classifier_work().table
    assert isinstance(whole, Dataset)
    table: Named = whole.select(range(COUNT))
    deployment = Deployment(model, recipe.family, rows, table, Sum(), recipe=recipe)
    before = digest_of(model)
    if isinstance(method, LFSSD):  # it opens no label, so it is told which fields the model reads
        method = replace(method, inputs=tuple(name for name in rows.columns if name != "label"))
    if network == "bert" and name in OF_PICTURES:
        with pytest.raises(ExpungeError, match=OF_PICTURES[name]):
            deployment.forget(EIGHTS, method, Run())
        return
    deployment.forget(EIGHTS, method, Run())
    assert digest_of(model) == before
    weights, start = parameters_of(deployment.model), parameters_of(model)
    moved = [name for name, weight in weights.items() if not torch.equal(weight, start[name])]
    assert moved
    assert all(bool(torch.isfinite(weight).all()) for weight in weights.values())
    gone = rows.select(EIGHTS.target.rows(table))
    then, now = (
        float(mean_loss(ask(recipe.family, m, gone, Run()))) for m in (model, deployment.model)
    )
    assert now != then
    if name in RISES:
        assert now > then
    if name in ("cf-k", "eu-k"):
        assert len(moved) < len(weights)
