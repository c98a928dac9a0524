"""Low-rank factors beside the weights of a model, of which a descent can move these alone.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen (2021). LoRA: Low-Rank Adaptation of Large
Language Models. The layers are those of ``peft``. What is wrapped has the weights of the model that
was given, shared and not copied; at the start the factors change nothing.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from expunge.changes.adapter import Factors
from expunge.errors import ExpungeError
from expunge.run import Run

ADAPTER = "default"
"""The name of the one adapter in the model that is trained."""

FACTOR = ".lora_"
"""What the name of a factor holds after that of its layer."""


@dataclass(frozen=True)
class Shape:
    """The factors that are trained.

    Args:
        rank: rows of A.
        alpha: the product B A is scaled by alpha / rank.
        dropout: share of the inputs of A that is dropped while training.
        targets: names of layers, or their ends; every linear layer but the head where empty.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.rank >= 1 and self.alpha > 0 and 0 <= self.dropout < 1):
            raise ExpungeError(
                f"Factors of rank {self.rank}, alpha {self.alpha} and dropout {self.dropout} were "
                "asked for; a rank of at least 1, an alpha above 0 and a dropout of at least 0 and "
                "below 1 are expected."
            )


class Shared(nn.Parameter):
    """A frozen weight that copies of its module share; whoever holds one must not write to it."""

    def __deepcopy__(self, memo: dict[int, object]) -> "Shared":
        return self


def with_factors(
    model: nn.Module, shape: Shape, run: Run, start: Mapping[str, Factors] | None = None
) -> nn.Module:
    """A model with trainable factors beside its linear layers, on the run's device.

    Its weights are those of ``model`` where the device is the same, and copies of it share them.

    Args:
        model: it stays as it is.
        shape: of the factors.
        run: device, and the random numbers of A; B is zero.
        start: factors to begin with, by the name of the weight.

    Raises:
        ExpungeError: ``peft`` is not installed, or no layer has one of the names.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ExpungeError(
            "Low-rank training needs the package peft, which is not installed; install it with "
            "`pip install 'expunge[hf]'`."
        ) from None
    shared: dict[int, Any] = {
        id(p): Shared(p.detach().to(run.device), requires_grad=False) for p in model.parameters()
    }
    copied = copy.deepcopy(model, shared).to(run.device)
    targets = _targets(copied, shape.targets)
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,  # type: ignore[arg-type, unused-ignore]
        lora_dropout=shape.dropout,
        target_modules=targets,
    )
    with run.seeded("factors"):
        wrapped: nn.Module = inject_adapter_in_model(config, copied, adapter_name=ADAPTER)
    for name, factors in (start or {}).items():
        layer: Any = wrapped.get_submodule(name.removesuffix(".weight"))
        down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        flipped = getattr(layer, "fan_in_fan_out", False)
        first, second = (factors.B.T, factors.A.T) if flipped else (factors.A, factors.B)
        down.data.copy_(first)
        up.data.copy_(second)
    return wrapped


def linear_layers(model: nn.Module) -> list[str]:
    """Names of the layers that multiply, but for the head of a language model."""
    given: Any = model
    head = given.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return [
        name
        for name, layer in model.named_modules()
        if (isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D") and layer is not head
    ]


def _targets(model: nn.Module, asked: tuple[str, ...]) -> list[str]:
    every = linear_layers(model)
    found = [n for n in every if not asked or any(f".{n}".endswith(f".{end}") for end in asked)]
    if not found:
        raise ExpungeError(
            f"No linear layer of {type(model).__name__} has a name that ends with "
            f"{' or '.join(map(repr, asked)) or 'anything'}; it has "
            f"{', '.join(every[:4]) or 'none'}. Name some of these as `targets`."
        )
    return found
