"""SafeGuidance: a guard that leads what is being drawn away from concepts, step by step.

Schramowski, Brack, Deiseroth, Kersting (2023). Safe Latent Diffusion. At every step of a sampler
the model is asked about the prompt, about none and about the concept S, and where the prompt's
noise goes the concept's way it is led back:

    mu  = min(1, scale |eps_c - eps_S|)  where eps_c - eps_S < threshold, else 0
    gam = mu (eps_S - eps_0) + momentum nu,     nu <- decay nu + (1 - decay) gam
    eps = eps_0 + guidance (eps_c - eps_0 - gam)     from step ``warm_up`` on.

It deletes nothing: whoever holds the weights draws without it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from expunge.changes.guarded import Guarded
from expunge.errors import ExpungeError, IntegrityError
from expunge.storage import read_facts, read_tensors, write_tensors


@dataclass(frozen=True)
class Push:
    """How hard a drawing is led away.

    Args:
        warm_up: steps of the sampler, counted from 0, before it acts. They are steps and no
            timesteps.
        scale: of the distance between the prompt's noise and the concept's.
        threshold: it acts where the prompt's noise exceeds the concept's by less.
        momentum: share of what it did before that is added.
        decay: of that memory.

    Raises:
        ExpungeError: a number cannot be.
    """

    warm_up: int = 10
    scale: float = 1000.0
    threshold: float = 0.01
    momentum: float = 0.3
    decay: float = 0.4

    def __post_init__(self) -> None:
        fine = self.warm_up >= 0 and self.scale > 0 and self.momentum >= 0 and 0 <= self.decay < 1
        if not fine:
            raise ExpungeError(
                f"Safe guidance got {self}; at least 0 steps and momentum, a scale above 0 and a "
                "decay from 0 to below 1 are expected."
            )


@dataclass(frozen=True, eq=False)
class Avoided:
    """A concept that is avoided: its condition (...,) as the model is told it, and how hard."""

    condition: Tensor
    push: Push


@dataclass(frozen=True, eq=False)
class SafeGuidance:
    """A guard over the drawings of a model.

    Args:
        avoided: concepts, in the order of their requests.
        facts: JSON values that travel with it.

    Raises:
        IntegrityError: there is none, or their conditions have several shapes.
    """

    avoided: tuple[Avoided, ...]
    facts: Mapping[str, object] = field(default_factory=dict)

    kind: ClassVar[str] = "safe-guidance"
    artifacts: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __post_init__(self) -> None:
        shapes = {tuple(one.condition.shape) for one in self.avoided}
        if len(shapes) != 1:
            raise IntegrityError(
                f"Safe guidance away from {len(self.avoided)} concepts of the shapes "
                f"{sorted(shapes)} was given; at least one, of one shape, is expected."
            )

    def merged(self, others: Sequence[Self]) -> Self:
        """One guard that leads away from this one's concepts and the others'."""
        avoided = (*self.avoided, *(one for other in others for one in other.avoided))
        return replace(self, avoided=avoided, facts=self.facts if not others else {})

    def around(self, model: nn.Module) -> "SafelyDrawing":
        """The guarded model; its weights are shared."""
        return SafelyDrawing(model, self)

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors = {str(i): one.condition for i, one in enumerate(self.avoided)}
        pushes = [asdict(one.push) for one in self.avoided]
        header = {"kind": self.kind, "pushes": pushes, "facts": dict(self.facts)}
        write_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a stored SafeGuidance.

        Raises:
            IntegrityError: the file is missing, damaged, or no SafeGuidance.
        """
        header: Any = read_facts(path)
        if header.get("kind") != cls.kind:
            raise IntegrityError(
                f"{path} holds no SafeGuidance; give a file written by SafeGuidance.save."
            )
        tensors = read_tensors(path)
        try:
            pushes = [Push(**told) for told in header["pushes"]]
            if set(tensors) != {str(i) for i in range(len(pushes))}:
                raise ValueError("its conditions and pushes do not pair")
            avoided = tuple(Avoided(tensors[str(i)], push) for i, push in enumerate(pushes))
            return cls(avoided, dict(header["facts"]))
        except (KeyError, TypeError, ValueError, ExpungeError) as error:
            raise IntegrityError(
                f"{path} is damaged: it is no whole SafeGuidance ({type(error).__name__}: "
                f"{error}); restore the file from its source."
            ) from None


class SafelyDrawing(Guarded):
    """A model behind a :class:`SafeGuidance`; samplers ask it how drawings are steered."""

    def __init__(self, guarded: nn.Module, guidance: SafeGuidance) -> None:
        super().__init__(guarded)
        self.guidance = guidance

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """One answer of the guarded model: what is steered is a drawing, not a step alone."""
        return self.guarded(*args, **kwargs)

    def steering(self) -> "LedAway":
        """The guidance of one drawing, at its first step."""
        return LedAway(self.guidance.avoided)


class LedAway:
    """Where a drawing has got to: the step, and what was done before for every concept."""

    def __init__(self, avoided: Sequence[Avoided]) -> None:
        self.avoided, self.step = avoided, 0
        self.memory: list[Tensor | None] = [None] * len(avoided)

    def noise(
        self,
        asked: Callable[[Tensor], Tensor],
        condition: Tensor,
        empty: Tensor,
        scale: float,
    ) -> Tensor:
        """The noise of the present step; the next call is the next step's.

        Args:
            asked: from conditions (k B, ...) to noise.
            condition: what is to be drawn (B, ...).
            empty: no condition (B, ...).
            scale: of the guidance.
        """
        concepts = [one.condition.to(condition).expand_as(condition) for one in self.avoided]
        told, untold, *theirs = asked(torch.cat([condition, empty, *concepts])).chunk(
            2 + len(concepts)
        )
        guided = told - untold
        for number, (one, its) in enumerate(zip(self.avoided, theirs, strict=True)):
            away = self._away(number, one.push, told, untold, its)
            if self.step >= one.push.warm_up:
                guided = guided - away
        self.step += 1
        return untold + scale * guided

    def _away(self, number: int, push: Push, told: Tensor, untold: Tensor, its: Tensor) -> Tensor:
        """What one concept takes away (gam), and what is remembered of it."""
        apart = told - its
        strength = (push.scale * apart.abs()).clamp(max=1.0)
        strength = torch.where(apart < push.threshold, strength, torch.zeros_like(strength))
        before = self.memory[number]
        away = strength * (its - untold)
        if before is not None:
            away = away + push.momentum * before
        remembered = torch.zeros_like(away) if before is None else before
        self.memory[number] = push.decay * remembered + (1 - push.decay) * away
        return away
