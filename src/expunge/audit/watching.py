"""A run that is watched: rows read, steps of its loops, memory of a step, and an end to it.

A method is given this in place of its :class:`~expunge.run.Run` and notices nothing: the meter
counts what it touches, the progress bars are seen and not drawn, and when the time is over the
next step ends the work.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from expunge.run import Advance, Meter, Run


class Enough(BaseException):
    """The time is over. It is no error, so that no method's ``except Exception`` takes it."""


@dataclass
class Loop:
    """One progress bar: its ``total`` steps, the time ``at`` its start and after each step, and how
    many batches of each role were read by then."""

    total: int
    at: list[float]
    calls: list[Counter[str]]

    @property
    def steps(self) -> int:
        """Steps that ended."""
        return len(self.at) - 1


@dataclass
class Watch(Meter):
    """A meter that also sees steps and memory, and ends the work.

    Args:
        deadline: time (of ``time.perf_counter``) after which work ends, with the step it is at.
        hard: the same for a loop with fewer than ``steps`` steps so far.
        steps: steps from which a pace can be taken.

    ``calls`` and ``largest`` are the batches of each role and the largest of them; ``gradients``,
    ``optimiser`` and ``activations`` bytes.
    """

    deadline: float = float("inf")
    hard: float = float("inf")
    steps: int = 1
    calls: Counter[str] = field(default_factory=Counter)
    largest: Counter[str] = field(default_factory=Counter)
    loops: list[Loop] = field(default_factory=list)
    gradients: int = 0
    optimiser: int = 0
    activations: int = 0
    _first_step: ExitStack = field(default_factory=ExitStack)

    def touch(self, role: str, count: int) -> None:
        """Count rows; work that shows no steps ends here."""
        super().touch(role, count)
        self.calls[role] += 1
        self.largest[role] = max(count, self.largest[role])
        if not self.loops and time.perf_counter() > self.deadline:
            raise Enough

    def began(self, total: int) -> None:
        """A loop of ``total`` steps begins."""
        self.loops.append(Loop(total, [time.perf_counter()], [Counter(self.calls)]))

    def stepped(self) -> None:
        """A step of the latest loop ended."""
        self._first_step.close()
        loop, now = self.loops[-1], time.perf_counter()
        loop.at.append(now)
        loop.calls.append(Counter(self.calls))
        limit = self.deadline if loop.steps >= self.steps else self.hard
        if loop.steps < loop.total and now > limit:
            raise Enough

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Inside, torch's optimisers are seen, and up to the end of the first step what autograd
        keeps for the backward pass beside the parameters of ``model``."""
        saved: dict[int, int] = {}
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own and not isinstance(tensor, nn.Parameter):
                saved[storage.data_ptr()] = storage.nbytes()
                self.activations = sum(saved.values())
            return tensor

        handle = register_optimizer_step_post_hook(self._after_optimiser)
        # the first step alone: the hook costs time at every operation
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        self._first_step.enter_context(hooks)
        try:
            yield
        finally:
            self._first_step.close()
            handle.remove()

    def _after_optimiser(self, optimiser: Optimizer, *_: object) -> None:
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        gradients = sum(_bytes(p.grad) for p in parameters if p.grad is not None)
        values = (value for state in optimiser.state.values() for value in state.values())
        states = sum(_bytes(value) for value in values if isinstance(value, Tensor))
        self.gradients, self.optimiser = (
            max(self.gradients, gradients),
            max(self.optimiser, states),
        )


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class _Step(Advance):
    """The hand of a bar that is watched and not drawn."""

    def __init__(self, meter: Watch) -> None:
        super().__init__(None, 0)
        self.meter = meter

    def advance(self) -> None:
        """One step is done."""
        self.meter.stepped()


@dataclass(frozen=True)
class WatchedRun(Run):
    """A run whose meter is a :class:`Watch`; it writes no checkpoint and draws nothing."""

    meter: Watch = field(default_factory=Watch)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Advance]:
        """A loop that is watched."""
        self.meter.began(total)
        yield _Step(self.meter)
