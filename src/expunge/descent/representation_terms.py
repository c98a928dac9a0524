"""Terms on the hidden states after one layer: lead them astray, or keep them as they were.

Li, Pan, Gopal et al. (2024). The WMDP Benchmark: Measuring and Reducing Malicious Use with
Unlearning (RMU). The states are read where answer tokens are predicted from. A text without prompt
is all answer, as in the paper; of a prompt with an answer, what the prompt shares with every other
prompt is left alone.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.descent.player import Setting
from expunge.descent.reference import TokenStates
from expunge.errors import ExpungeError
from expunge.families.abilities import HasTaps, able
from expunge.problem import Fields

SHARE = 7 / 32
"""Where the paper's layer, 7 of 32, lies in a model."""


def steered_layer(depth: int, layer: int | None) -> int:
    """The position of the layer that is read: the one given, or the paper's in proportion.

    Raises:
        ExpungeError: the model has no such layer.
    """
    if layer is None:
        return int(SHARE * depth + 0.5)
    if not 0 <= layer < depth:
        raise ExpungeError(
            f"The states after layer {layer} were asked for, and this model has {depth} layers; "
            f"give a number from 0 to {depth - 1}."
        )
    return layer


@dataclass(frozen=True)
class Misdirection:
    """Mean squared distance of the states to ``coefficient * u``, over answer tokens and channels.

    ``u`` is one random vector of length 1, its entries drawn uniformly from [0, 1] as in the paper:
    all are positive, so that it has a part along the constant vector.

    Args:
        layer: position of the layer; None for :data:`SHARE` of the depth.
        coefficient: length of the target (steering coefficient).
    """

    layer: int | None = None
    coefficient: float = 2.0
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasTaps,)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The target (D,) float32."""
        one = {k: t.to(setting.run.device) for k, t in samples.batch(torch.tensor([0])).items()}
        tap = _tap(setting, self.layer)
        with torch.no_grad():
            states = able(setting.family, HasTaps).tapped(setting.model, one, tap).values
        drawn = torch.rand(
            states.shape[1], generator=setting.run.generator(f"{setting.label}/direction")
        )
        target: Tensor = self.coefficient * drawn / torch.linalg.vector_norm(drawn)
        return target.to(states.device)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The distance of the batch."""
        assert isinstance(prepared, Tensor)
        return _distance(setting, batch, self.layer, prepared)


@dataclass(frozen=True)
class KeptStates:
    """Mean squared distance of the states to the reference's, over answer tokens and channels.

    Args:
        layer: as in :class:`Misdirection`.
    """

    layer: int | None = None
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasTaps,)

    def start(self, setting: Setting, samples: Samples) -> TokenStates:
        """The reference's states at every answer token of the role."""
        tap, reader = _tap(setting, self.layer), able(setting.family, HasTaps)
        return TokenStates.read(setting, samples, lambda m, batch: reader.tapped(m, batch, tap))

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The distance of the batch."""
        assert isinstance(prepared, TokenStates)
        return _distance(setting, batch, self.layer, prepared.at(batch))


def _tap(setting: Setting, layer: int | None) -> str:
    taps = list(setting.family.anatomy(setting.model).taps)
    return taps[steered_layer(len(taps), layer)]


def _distance(setting: Setting, batch: Batch, layer: int | None, target: Tensor) -> Tensor:
    reader = able(setting.family, HasTaps)
    states = reader.tapped(setting.model, batch, _tap(setting, layer)).values.float()
    return (states - target).square().mean()
