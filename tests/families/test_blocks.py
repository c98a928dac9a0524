"""Blocks: what counts as one when only the last few of a model are trained."""

import pytest
import torch
from torch import nn

from expunge.changes.weights import parameters_of
from expunge.families.blocks import OWN, blocks_of
from expunge.models.cnn import SmallCnn
from expunge.models.mlp import Mlp


class Wrapped(nn.Module):
    """A body that holds a list of layers, as transformer models do, beside a head."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(3))
        self.body = nn.Module()
        self.body.layers = nn.ModuleList([nn.Sequential(nn.Linear(3, 3)) for _ in range(2)])
        self.body.norm = nn.LayerNorm(3)
        self.head = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))


MODELS: dict[str, tuple[nn.Module, list[str]]] = {
    "a sequence alone is opened": (
        Mlp(torch.Generator(), (4, 3, 2)),
        ["layers.1", "layers.3"],
    ),
    "a stage beside others is a block": (SmallCnn(torch.Generator()), ["features", "classifier"]),
    "a list is opened, its elements are blocks": (
        Wrapped(),
        [OWN, "body.layers.0", "body.layers.1", "body.norm", "head"],
    ),
    "the elements of a sequence are blocks": (
        nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.ReLU(), nn.Linear(2, 2)),
        ["0", "2"],
    ),
    "a layer is one block": (nn.Linear(2, 2), [OWN]),
}


@pytest.mark.parametrize("fact", MODELS)
def test_blocks(fact: str) -> None:
    model, names = MODELS[fact]
    blocks = blocks_of(model)
    assert list(blocks) == names
    assert [n for held in blocks.values() for n in held] == list(parameters_of(model))


def test_the_last_block_of_a_transformers_classifier_is_its_head() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=8,
        patch_size=4,
        num_channels=1,
        num_labels=10,
    )
    blocks = blocks_of(transformers.ViTForImageClassification(config))
    assert list(blocks)[-1] == "classifier"
    assert sum("layers." in name or "layer." in name for name in blocks) == 3
