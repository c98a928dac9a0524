"""The parts of a decoder's layers by name: where attention and feed-forward write.

The layers are the taps of the anatomy. Names of their parts are those of ``transformers``; the
matrix that a feed-forward part writes with is its last one.
"""

from dataclasses import dataclass

from torch import nn

from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.families.language import input_embedding

ATTENTION = ("self_attn", "self_attention", "attention", "attn")
"""Names of the attention of a layer."""

MLP = ("mlp", "feed_forward", "ffn")
"""Names of the feed-forward part of a layer."""


@dataclass(frozen=True)
class DecoderLayer:
    """Names of a layer's module, of its attention, and of its feed-forward part."""

    name: str
    attention: str
    mlp: str


def decoder_layers(family: Family, model: nn.Module) -> tuple[DecoderLayer, ...]:
    """The layers in forward order.

    Raises:
        ExpungeError: the model has no layers, or one without a part of these names.
    """
    taps = family.anatomy(model).taps
    if not taps:
        raise ExpungeError(
            f"{type(model).__name__} has no list of layers; a decoder with layers is expected, as "
            "models for causal language modelling have them."
        )
    return tuple(
        DecoderLayer(name, _part(model, name, ATTENTION), _part(model, name, MLP))
        for name in taps.values()
    )


def _part(model: nn.Module, layer: str, names: tuple[str, ...]) -> str:
    held = {child for child, _ in model.get_submodule(layer).named_children()}
    found = next((name for name in names if name in held), None)
    if found is None:
        raise ExpungeError(
            f"The layer {layer!r} of {type(model).__name__} has the parts "
            f"{', '.join(sorted(held)) or 'none'}; one that is called {' or '.join(names)} is "
            "expected. Take a method that moves all weights: `expunge methods` lists them."
        )
    return f"{layer}.{found}"


def written_with(model: nn.Module, layer: DecoderLayer) -> str:
    """The name of the matrix by which a layer's feed-forward part writes into the hidden state.

    Raises:
        ExpungeError: its last weight is no matrix into the hidden state, as in a mixture of
            experts.
    """
    width = next(input_embedding(model).parameters()).shape[-1]
    weights = [(n, p) for n, p in model.get_submodule(layer.mlp).named_parameters() if p.dim() > 1]
    name, last = weights[-1] if weights else ("nothing", None)
    matrices = all(p.dim() == 2 for _, p in weights)
    if last is None or not matrices or width not in last.shape:
        raise ExpungeError(
            f"The feed-forward part {layer.mlp!r} of {type(model).__name__} ends in {name}; one "
            f"matrix into hidden states of width {width} is expected there, which a mixture of "
            "experts does not have. Take a method that moves all weights."
        )
    return f"{layer.mlp}.{name}"
