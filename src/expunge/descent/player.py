"""Players: who moves in a descent, on which terms, with which parameters and optimiser.

One player is the ordinary case. Adversarial and two-stage methods have several.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from expunge.data.samples import Batch, Samples
from expunge.descent.holding import Held
from expunge.descent.optimisers import AdamW, Optimiser
from expunge.descent.proximal import Proximal
from expunge.descent.sources import Pool
from expunge.families.abilities import Family
from expunge.problem import Access, Fields, Problem
from expunge.recipe import Role
from expunge.run import Run


@dataclass(frozen=True)
class Setting:
    """What a term may look at beside its batch.

    ``modules`` holds the model (``"model"``) and every companion, on the run's device. Those that
    play are live; the others are frozen copies in evaluation mode. ``reference()`` is a frozen copy
    of the model as it was at the start. ``step`` is the present one of ``total``. ``label`` names
    the term that looks.
    """

    problem: Problem
    modules: Mapping[str, nn.Module]
    reference: Callable[[], nn.Module]
    run: Run
    step: int = 0
    total: int = 1
    label: str = ""

    @property
    def model(self) -> nn.Module:
        """The live module of the model."""
        return self.modules["model"]

    @property
    def family(self) -> Family:
        """The family of the model."""
        return self.problem.family

    def generator(self) -> torch.Generator:
        """The term's own random numbers of this step: the same at each call, so that its value is
        a deterministic function of the modules and the batch."""
        return self.run.generator(f"{self.label}/{self.step}/own")


class Term(Protocol):
    """One summand of a player's objective, with its own stream of batches and generator.

    A term of weight 0 is not evaluated, and leaves all others bit-identical.
    """

    @property
    def weight(self) -> float:
        """Factor in the objective."""
        ...

    @property
    def every(self) -> int:
        """Period in steps: it acts at steps 0, every, 2 every ..."""
        ...

    @property
    def batch_size(self) -> int | None:
        """Rows of its batches; None takes the descent's."""
        ...

    @property
    def fields(self) -> Fields:
        """The fields of its role that it reads; None for all."""
        ...

    @property
    def needs(self) -> tuple[type, ...]:
        """The abilities that the family must have."""
        ...

    def start(self, setting: Setting, samples: Samples) -> object:
        """What it computes once before the first step: cached log-probabilities, for example.

        Terms on a :class:`Source` are not started.
        """
        ...

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Its value on a drawn batch, a scalar to be minimised."""
        ...


@runtime_checkable
class Evolving(Protocol):
    """What a term prepared, where it changes as the descent goes: a multiplier, a running mean.

    It is in the checkpoint. The value of the term stays a function of the modules, the batch and
    this: a transform may look several times before the step is over.
    """

    def stepped(self) -> None:
        """The step at which the term acted is over; called once."""
        ...

    def state(self) -> Mapping[str, Tensor]:
        """Everything that later values depend on."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a stored state."""
        ...


class Parameters(Protocol):
    """Which parameters a player moves."""

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """Canonical names, each with a boolean mask (True moves) or None for all entries."""
        ...


@runtime_checkable
class OfBlocks(Protocol):
    """A selection of blocks, which may hold submodules without weights."""

    def weightless(self, module: nn.Module, problem: Problem) -> Mapping[str, bool]:
        """Of submodules without weights whether they belong to the blocks; those of which that is
        not known are left out. Those outside of the blocks of all players are in evaluation mode
        during the descent."""
        ...


@dataclass(frozen=True)
class Trainable:
    """Every parameter that requires a gradient."""

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """All of them, without masks."""
        return {name: None for name, p in module.named_parameters() if p.requires_grad}


@dataclass(frozen=True)
class Matching:
    """Parameters whose canonical name contains one of ``parts``."""

    parts: tuple[str, ...]

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """Those that match, without masks."""
        names = [name for name, _ in module.named_parameters()]
        return {name: None for name in names if any(part in name for part in self.parts)}


class Source(Protocol):
    """Batches that come from no data set: a generator's own samples, drawn labels, prompts."""

    def batch(self, setting: Setting, size: int, generator: torch.Generator) -> Batch:
        """A drawn batch of ``size`` rows; it is not drawn again by the family."""
        ...


@runtime_checkable
class Opens(Protocol):
    """A source that makes its batches out of what a role says, such as the prompts of a model."""

    @property
    def access(self) -> Access:
        """The roles and fields that it reads."""
        ...


@dataclass(frozen=True)
class On:
    """A term and where its batches come from: a role of the problem, several of them in one stream,
    or a source of its own."""

    source: Role | Pool | Source
    term: Term

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles whose rows it reads; none for a source of its own."""
        if isinstance(self.source, Role):
            return (self.source,)
        return self.source.roles if isinstance(self.source, Pool) else ()


@dataclass(frozen=True)
class Player:
    """One mover of a descent.

    Args:
        module: ``"model"``, or the name of a companion.
        forget: term on the forget set.
        retain: term on the retain set.
        others: further terms, each under a name of its own.
        parameters: what it moves.
        optimiser: how it moves.
        every: it moves at steps start, start + every, ...
        start: first step at which it moves.
        training: put its module in training mode (dropout acts, batch norm follows the batches).
            Submodules that were in evaluation mode inside a module in training mode stay as they
            are: their owner froze them. A module that is in evaluation mode as a whole, as models
            in use are, goes into training mode as a whole. A submodule with parameters none of
            which moves is in evaluation mode in any case; one without parameters, as dropout is,
            where ``parameters`` are :class:`OfBlocks` and it is known to be outside of them.
            Afterwards every submodule of the result is in the mode it had.
        holds: entries outside a mask keep their bits. Where False only their gradient is zero, as
            in the code that some papers released, and decay and momentum move them.
        proximal: follows each of its steps, and pulls what moved back to its start.
        batches: a name for its batches. Players of one name see the same ones at the same step, in
            terms of one name, role and batch size: two steps on the same rows. None for batches
            of its own.
    """

    module: str = "model"
    forget: Term | None = None
    retain: Term | None = None
    others: Mapping[str, On] = field(default_factory=dict)
    parameters: Parameters = field(default_factory=Trainable)
    optimiser: Optimiser = field(default_factory=lambda: AdamW(1e-5))
    every: int = 1
    start: int = 0
    training: bool = True
    holds: bool = True
    proximal: Proximal | None = None
    batches: str | None = None

    def terms(self) -> dict[str, On]:
        """Every term that can act, by name; ``forget`` and ``retain`` are named so."""
        named = dict(self.others)
        if self.retain is not None:
            named = {"retain": On(Role.RETAIN, self.retain), **named}
        if self.forget is not None:
            named = {"forget": On(Role.FORGET, self.forget), **named}
        return {name: on for name, on in named.items() if on.term.weight != 0}

    def moves_at(self, step: int) -> bool:
        """Whether it moves at this step."""
        return step >= self.start and (step - self.start) % self.every == 0


@dataclass(frozen=True)
class StepGradients:
    """The gradients of a player's terms on the batches of one step.

    Each call computes them anew at the parameters' present values, on the same drawn batches, so a
    transform may move the parameters, look again, and move them back. ``generator()`` gives the
    transform's own random numbers of this step, the same at each call and after a resumption.
    ``unreached`` are the places of parameters to which no term led so far; each call takes out
    those that it finds.
    """

    parameters: tuple[nn.Parameter, ...]
    values: Mapping[str, Callable[[], Tensor]]
    held: tuple[Held | None, ...]
    generator: Callable[[], torch.Generator] = torch.Generator
    unreached: set[int] = field(default_factory=set)

    def _gradient(self, value: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(value, self.parameters, allow_unused=True)
        if self.unreached:
            self.unreached.difference_update(n for n, g in enumerate(found) if g is not None)
        return [
            torch.zeros_like(p) if g is None else g if held is None else held.cut(g)
            for p, g, held in zip(self.parameters, found, self.held, strict=True)
        ]

    def total(self) -> list[Tensor]:
        """Gradient of the weighted sum of all terms, one tensor a parameter."""
        return self._gradient(torch.stack([value() for value in self.values.values()]).sum())

    def per_term(self) -> dict[str, list[Tensor]]:
        """Gradient of each weighted term."""
        return {name: self._gradient(value()) for name, value in self.values.items()}

    def only(self, names: Collection[str]) -> "StepGradients":
        """The same with those of the terms that are named and act at this step."""
        return replace(self, values={n: v for n, v in self.values.items() if n in names})

    def instead(self, names: Collection[str], gradient: Sequence[Tensor]) -> "StepGradients":
        """The same with one term in the place of those named: the linear one of this gradient."""

        def linear() -> Tensor:
            pairs = zip(self.parameters, gradient, strict=True)
            return torch.stack([torch.dot(p.reshape(-1), g.reshape(-1)) for p, g in pairs]).sum()

        others = {n: v for n, v in self.values.items() if n not in names}
        return replace(self, values={"+".join(names): linear, **others})

    @contextmanager
    def moved(self, direction: Sequence[Tensor], times: float) -> Iterator[None]:
        """Inside, the parameters are moved by ``times`` the direction, but for held entries;
        afterwards they have the bits they had."""
        kept = [p.detach().clone() for p in self.parameters]
        try:
            with torch.no_grad():
                for p, d, held in zip(self.parameters, direction, self.held, strict=True):
                    p.add_(d if held is None else held.cut(d), alpha=times)
            yield
        finally:
            with torch.no_grad():
                for p, old in zip(self.parameters, kept, strict=True):
                    p.copy_(old)


class Transform(Protocol):
    """Makes the gradients that a player steps with: clipping, projection, sharpness awareness."""

    def gradients(self, at: StepGradients) -> list[Tensor]:
        """One tensor a parameter."""
        ...


class Adversary(Protocol):
    """Changes a batch before a term sees it: boundary search, adversarial prompts."""

    def perturbed(self, setting: Setting, term: str, batch: Batch) -> Batch:
        """The batch that the term is to see."""
        ...
