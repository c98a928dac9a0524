"""Run: the device, seed, precision, progress and cost of one piece of work."""

import copy
import hashlib
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from expunge.errors import ExpungeError

Precision = Literal["float32", "bfloat16"]


@dataclass
class Meter:
    """What a piece of work cost: seconds, peak memory in bytes, samples touched by role."""

    seconds: float = 0.0
    peak_bytes: int = 0
    touched: Counter[str] = field(default_factory=Counter)

    def touch(self, role: str, count: int) -> None:
        """Count rows that were read for a gradient or a statistic."""
        self.touched[role] += count

    @contextmanager
    def measured(self) -> Iterator["Meter"]:
        """Add the seconds spent inside, and the peak memory of the process so far."""
        start = time.perf_counter()
        try:
            yield self
        finally:
            self.seconds += time.perf_counter() - start
            self.peak_bytes = max(self.peak_bytes, peak_memory())


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes, with that of the accelerator."""
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return host + (torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)


@dataclass(frozen=True)
class Run:
    """Where and how work is done. All randomness comes from :meth:`generator`.

    Args:
        seed: the one number that fixes every draw.
        device: a torch device name.
        precision: ``bfloat16`` runs forward passes under autocast; weights stay float32.
        console: where progress is drawn and warnings are printed; none by default.
        checkpoints: folder for the state of long loops; none by default.
        checkpoint_every: steps between two checkpoints.

    Raises:
        ExpungeError: the device is not there.
    """

    seed: int = 0
    device: str = "cpu"
    precision: Precision = "float32"
    console: Console | None = None
    checkpoints: Path | None = None
    checkpoint_every: int = 200
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        try:
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ExpungeError(
                f"The device {self.device!r} was asked for and cannot be used here "
                f"({str(error).splitlines()[0]}); give 'cpu' or a device of this machine."
            ) from None

    def generator(self, name: str, device: str = "cpu") -> torch.Generator:
        """A stream of random numbers of its own: the same for the same seed and name."""
        mixed = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(mixed[:8], "big") >> 1)

    @contextmanager
    def seeded(self, name: str) -> Iterator[None]:
        """Inside, torch's global random numbers (dropout) start from :meth:`generator`'s seed of
        this name; outside, they go on as if nothing had happened."""
        generators = [torch.default_generator]  # torch.manual_seed would seed every backend
        if (device := torch.device(self.device)).type == "cuda":
            generators.append(torch.cuda.default_generators[device.index or 0])
        states = [generator.get_state() for generator in generators]
        seed = self.generator(name).initial_seed()
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of forward passes."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, torch.bfloat16)

    def warn(self, sentence: str) -> None:
        """Print a warning on the console; without one, raise it as a Python warning."""
        if self.console is None:
            warnings.warn(sentence, stacklevel=3)
        else:
            self.console.print(f"Warning: {sentence}", soft_wrap=True, markup=False)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator["Advance"]:
        """A progress bar of ``total`` steps, drawn where a console was given; who watches is told,
        of a progress inside another one of the outer alone."""
        watch = _WATCH.get()
        token = _WATCH.set(None)
        try:
            if self.console is None or not self.console.is_terminal:
                yield Advance(None, total, watch)
                return
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            with Progress(*columns, console=self.console, transient=True) as bar:
                bar.add_task(title, total=total)
                yield Advance(bar, total, watch)
        finally:
            _WATCH.reset(token)


Watch = Callable[[float], None]
"""Is told the share of a piece of work that is done, from 0 to 1."""
_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Inside, in this thread, every progress of a :class:`Run` tells its share after each step."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


@dataclass
class Advance:
    """The hand that moves a progress bar of ``total`` steps, and tells who watches."""

    bar: Progress | None
    total: int
    watch: Watch | None = None
    done: int = 0

    def advance(self) -> None:
        """One step is done."""
        self.done += 1
        if self.bar is not None:
            self.bar.advance(self.bar.task_ids[0])
        if self.watch is not None and self.total > 0:
            self.watch(min(1.0, self.done / self.total))


def on_device(model: nn.Module, run: Run) -> nn.Module:
    """The model, or a copy of it where a tensor of it is on another device than the run's."""
    device = torch.empty(0, device=run.device).device
    tensors = [*model.parameters(), *model.buffers()]
    if all(tensor.device == device for tensor in tensors):
        return model
    return copy.deepcopy(model).to(device)
