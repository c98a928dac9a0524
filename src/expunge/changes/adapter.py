"""LowRank: an adapter, the product of two thin factors for each weight that it changes.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen (2021). LoRA: Low-Rank Adaptation of Large
Language Models. A weight W (out, in) becomes W + scaling * B A, with A (r, in) and B (out, r), so
that a change of a large model is stored in a small file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from expunge.changes.weights import (
    digest_of,
    is_finite,
    parameters_of,
    shifted,
    stored_tensors,
)
from expunge.errors import IntegrityError
from expunge.storage import read_facts, read_tensors, write_tensors

PARTS = ("A", "B", "scaling")
"""What is stored of the factors of a weight; each tensor is named ``part:weight``."""
MULTIPLIES, LOOKS_UP = ("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B")
"""Where a layer of ``peft`` keeps its factors: one that multiplies, and one that looks up."""


@dataclass(frozen=True, eq=False)
class Factors:
    """The factors of one weight.

    Args:
        A: (r, in) float32.
        B: (out, r) float32.
        scaling: what their product is multiplied by.
        shape: of the weight, of as many numbers as the product (out, in), which it is by default; a
            convolution has (out, channels, height, width).

    Raises:
        IntegrityError: the factors do not fit one another or the shape, or are not finite.
    """

    A: Tensor
    B: Tensor
    scaling: float = 1.0
    shape: torch.Size | None = None

    def __post_init__(self) -> None:
        thin = self.A.dim() == self.B.dim() == 2 and self.A.shape[0] == self.B.shape[1]
        if not thin or (self.shape is not None and self._numbers != self.shape.numel()):
            weight = "" if self.shape is None else f" for a weight {tuple(self.shape)}"
            raise IntegrityError(
                f"Factors A {tuple(self.A.shape)} and B {tuple(self.B.shape)} were given{weight}; "
                "A (r, in) and B (out, r), whose product has as many numbers as the weight, are "
                "expected."
            )
        if not all(map(is_finite, (self.A, self.B, torch.tensor(self.scaling)))):
            raise IntegrityError(
                "The factors have NaN or infinite values; finite numbers are expected. Lower the "
                "learning rate of the method and run it again."
            )

    @property
    def _numbers(self) -> int:
        return self.B.shape[0] * self.A.shape[1]

    def product(self) -> Tensor:
        """The product scaling * B A, float32 in the shape of the weight."""
        dense = (self.B.float() @ self.A.float()) * self.scaling
        return dense if self.shape is None else dense.reshape(self.shape)


@dataclass(frozen=True, eq=False)
class LowRank:
    """A low-rank change of the base with digest ``base``.

    Args:
        base: digest of the model that it was made for.
        factors: by canonical name of the weight.
        facts: JSON values that travel with it.

    Raises:
        IntegrityError: there are no factors.
    """

    base: str
    factors: Mapping[str, Factors]
    facts: Mapping[str, object] = field(default_factory=dict)

    kind: ClassVar[str] = "low-rank"

    def __post_init__(self) -> None:
        if not self.factors:
            raise IntegrityError(
                "The adapter changes no weight; factors of at least one are expected."
            )

    @classmethod
    def of(cls, base: nn.Module, factors: Mapping[str, Factors], **facts: object) -> Self:
        """An adapter of a model; of tied weights any name will do.

        Raises:
            IntegrityError: a weight is unknown to the model, is named twice, or has another shape.
        """
        first = {id(tensor): name for name, tensor in parameters_of(base).items()}
        names = {n: first[id(t)] for n, t in base.named_parameters(remove_duplicate=False)}
        found: dict[str, Factors] = {}
        for name, given in factors.items():
            canonical = names.get(name, name)
            if canonical in found:
                raise IntegrityError(
                    f"The adapter changes {name!r} under two names, which are one tied weight of "
                    "this model; give its factors once."
                )
            found[canonical] = given
        adapter = cls(digest_of(base), found, facts)
        adapter._check_shapes(base)
        return adapter

    @classmethod
    def of_peft(
        cls, wrapped: nn.Module, base: nn.Module, adapter: str = "default", **facts: object
    ) -> Self:
        """The adapter of a model with LoRA layers of ``peft``, not merged into its weights.

        Args:
            wrapped: what ``peft.get_peft_model`` or ``inject_adapter_in_model`` gave.
            base: the model as it was before; ``wrapped`` may have taken over the module itself, so
                this is another with the same weights.
            adapter: the name of one of its adapters.
            facts: JSON values that travel with it.

        Raises:
            IntegrityError: the adapter is none of this base, is merged, or is more than factors of
                low rank (biases, magnitudes, whole layers).
        """
        inner: Any = wrapped
        inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        found: dict[str, Factors] = {}
        known: set[int] = set()
        for name, layer in inner.named_modules():
            for pair in (MULTIPLIES, LOOKS_UP):
                held = [getattr(layer, part, {}) for part in pair]
                known |= {id(_weight(each[key])) for each in held for key in each}
                if all(adapter in each for each in held):
                    thin, wide = (_weight(each[adapter]) for each in held)
                    turned = pair == LOOKS_UP or getattr(layer, "fan_in_fan_out", False)
                    weight = f"{name}.weight".lstrip(".")
                    found[weight] = _factors(layer, adapter, thin, wide, turned)
        _check_rest(inner, base, known)
        if not found:
            raise IntegrityError(
                f"The model has no LoRA layer with the adapter {adapter!r}; give a model with one, "
                "and the adapter's name."
            )
        return cls.of(base, found, **facts)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The change scaling * B A of each weight, float32, one by one, under canonical names."""
        for name, factors in self.factors.items():
            yield name, factors.product()

    def applied_to(self, model: nn.Module, strength: float = 1.0) -> nn.Module:
        """A copy of the base with ``strength`` times this change; the base stays as it is.

        Raises:
            IntegrityError: it is another base, or has other weights.
        """
        found = digest_of(model)
        if found != self.base:
            raise IntegrityError(
                f"This is an adapter for another base: it was made for {self.base[:12]}, and this "
                f"model is {found[:12]}. Put it on its own base, or make it again from this one."
            )
        return shifted(model, self.tensors(), strength)

    def _check_shapes(self, model: nn.Module) -> None:
        weights = parameters_of(model)
        for name, factors in self.factors.items():
            if name not in weights:
                raise IntegrityError(
                    f"This is an adapter for another base: it changes {name!r}, which this model "
                    "does not have. Take the model that it was made for."
                )
            found = tuple(factors.shape or (factors.B.shape[0], factors.A.shape[1]))
            if found != tuple(weights[name].shape):
                raise IntegrityError(
                    f"This is an adapter for another base: its change of {name!r} has the shape "
                    f"{found}, and the weight {tuple(weights[name].shape)}. Take the model that it "
                    "was made for."
                )

    def save(self, path: Path) -> None:
        """Write one safetensors file: the factors, and not their products."""
        tensors, shapes = dict[str, Tensor](), dict[str, list[int]]()
        for name, factors in self.factors.items():
            scaling = torch.tensor(factors.scaling, dtype=torch.float64)
            parts = zip(PARTS, (factors.A, factors.B, scaling), strict=True)
            tensors |= {f"{part}:{name}": tensor for part, tensor in parts}
            if factors.shape is not None:
                shapes[name] = list(factors.shape)
        header = {"kind": self.kind, "base": self.base, "shapes": shapes, "facts": dict(self.facts)}
        write_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a stored adapter.

        Raises:
            IntegrityError: the file is missing, damaged, or no adapter.
        """
        header: Any = read_facts(path)
        if header.get("kind") != cls.kind:
            raise IntegrityError(
                f"{path} holds no low-rank adapter; give a file written by LowRank.save."
            )
        tensors = read_tensors(path)
        try:
            names = sorted({name.partition(":")[2] for name in tensors})
            if set(tensors) != {f"{part}:{name}" for part in PARTS for name in names}:
                raise ValueError("a factor is missing")
            factors = {
                name: Factors(
                    tensors[f"A:{name}"],
                    tensors[f"B:{name}"],
                    float(tensors[f"scaling:{name}"]),
                    torch.Size(header["shapes"][name]) if name in header["shapes"] else None,
                )
                for name in names
            }
            return cls(_text(header["base"]), factors, dict(header["facts"]))
        except (KeyError, TypeError, ValueError, RuntimeError, IntegrityError) as error:
            raise IntegrityError(
                f"{path} is damaged: it is no whole adapter ({type(error).__name__}: {error}); "
                "restore the file from its source."
            ) from None


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError("its base is no digest")
    return given


def _weight(factor: Any) -> Tensor:
    """The tensor of a factor, which ``peft`` keeps in a layer or as a parameter."""
    found: Tensor = factor.get_parameter("weight") if isinstance(factor, nn.Module) else factor
    return found


def _factors(layer: Any, adapter: str, thin: Tensor, wide: Tensor, turned: bool) -> Factors:
    """Factors whose product is the change of the layer's weight as it is stored.

    An embedding, and a layer that stores its weight as (in, out), hold the product turned:
    (B A)^T = A^T B^T.
    """
    A, B = (each.detach().cpu().clone().reshape(each.shape[0], -1) for each in (thin, wide))
    if turned:
        A, B = B.T.contiguous(), A.T.contiguous()
    shape = layer.base_layer.weight.shape
    flat = len(shape) == 2
    return Factors(A, B, float(layer.scaling[adapter]), None if flat else torch.Size(shape))


def _check_rest(wrapped: nn.Module, base: nn.Module, known: set[int]) -> None:
    """Refuse an adapter that is more than its factors, and one that stands on other weights."""
    own = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in stored_tensors(wrapped).items()
        if id(tensor) not in known
    }
    expected = stored_tensors(base)
    if others := sorted(set(own) - set(expected)):
        raise IntegrityError(
            f"The adapter has {others[0]!r} beside its factors, and a low-rank change has none; "
            "take one without biases, magnitudes (DoRA) and modules that are saved whole, or make "
            "a Delta of the merged model."
        )
    for name, tensor in expected.items():
        if name not in own or not torch.equal(own[name].cpu(), tensor.cpu()):
            raise IntegrityError(
                f"This is an adapter for another base: {name!r} of the model below it differs. "
                "Give the base that it was trained on, and an adapter that is not merged into it."
            )
