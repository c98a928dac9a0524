"""Dual encoders: pictures and prompts in one space; a row's label is the index of its prompt.

Logits are cosine similarities times the model's scale (Radford et al. 2021, Learning Transferable
Visual Models From Natural Language Supervision). A module takes part in one of two ways: it has
``image_features(picture)``, ``text_features()`` and ``logit_scale`` (the shipped models), or it is
a ``transformers`` CLIPModel or SiglipModel, whose prompts are then given as token tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from expunge.changes.weights import buffers_of, parameters_of
from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.abilities import Anatomy
from expunge.families.blocks import blocks_of
from expunge.families.from_logits import FromLogits


@runtime_checkable
class TwoTowers(Protocol):
    """A dual encoder that keeps its prompts itself."""

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the factor on cosine similarities, a scalar."""
        ...

    def activation(self, picture: Tensor) -> Tensor:
        """What the frozen lower part makes of pictures (B, 3, H, W)."""
        ...

    def image_features(self, activation: Tensor) -> Tensor:
        """Unit vectors (B, D) from activations."""
        ...

    def text_features(self) -> Tensor:
        """Unit vectors (C, D) of the prompts."""
        ...


@dataclass(frozen=True, eq=False)
class DualEncoder(FromLogits):
    """Family ``dual_encoder``.

    Args:
        prompts: token tensors (C, L) of the prompts by the text tower's argument names, for
            ``transformers`` models; empty for models that keep their prompts.
        classes: number of prompts C; needed only for neutral labels.

    A batch holds ``image`` (B, 3, H, W), or ``activation``, what the frozen lower part made of it.
    """

    prompts: Mapping[str, Tensor] = field(default_factory=dict)
    classes: int = 0
    name: str = "dual_encoder"

    def image_features(self, model: nn.Module, batch: Batch) -> Tensor:
        """Unit vectors (B, D) of the pictures of a batch."""
        if isinstance(model, TwoTowers):
            lower = (
                batch["activation"] if "activation" in batch else model.activation(batch["image"])
            )
            return model.image_features(lower)
        features = model.get_image_features(pixel_values=batch["image"])  # type: ignore[operator]
        return F.normalize(getattr(features, "pooler_output", features), dim=-1)

    def text_features(self, model: nn.Module) -> Tensor:
        """Unit vectors (C, D) of all prompts."""
        if isinstance(model, TwoTowers):
            return model.text_features()
        if not self.prompts:
            raise ExpungeError(
                f"{type(model).__name__} keeps no prompts and the family was given none; "
                "give DualEncoder(prompts=...) the token tensors of the class prompts."
            )
        device = next(model.parameters()).device
        prompts = {name: tokens.to(device) for name, tokens in self.prompts.items()}
        features = model.get_text_features(**prompts)  # type: ignore[operator]
        return F.normalize(getattr(features, "pooler_output", features), dim=-1)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scaled cosine similarities (B, C) to all prompts."""
        scale = model.logit_scale
        assert isinstance(scale, Tensor)
        return scale.exp() * self.image_features(model, batch) @ self.text_features(model).T

    def embeddings(self, model: nn.Module, batch: Batch) -> Tensor:
        """Those of the pictures (B, D): the prompts are the head."""
        return self.image_features(model, batch)

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Blocks as :func:`blocks_of` finds them; the projections are the head."""
        head = tuple(n for n in parameters_of(model) if "projection" in n.split(".")[0])
        return Anatomy(blocks_of(model), head, buffers=tuple(buffers_of(model)))
