"""The gradient loop. A method is an expression over its parts; the loop knows no method.

``Descent(Player(forget=Ascent(), retain=Loss()))`` is gradient difference. All randomness of a step
is drawn before its losses are computed, each term has its own stream and generator, and the state
of all players is checkpointed, so a resumed descent ends in the same bits.
"""

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from expunge.changes.weights import digest_of
from expunge.descent.checkpoint import digest_of_samples, optimiser_tensors, restore_optimiser
from expunge.descent.length import Length
from expunge.descent.mover import Mover
from expunge.descent.player import Adversary, Player, Setting, Transform
from expunge.errors import ExpungeError
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.storage import Bundle


@dataclass(frozen=True)
class MovingAverage:
    """Exponential moving average of the weights; the average is what the descent returns."""

    decay: float = 0.999


@dataclass(frozen=True)
class Descended:
    """The modules after a descent, each a copy: the model, and every companion that played."""

    model: nn.Module
    companions: Mapping[str, nn.Module] = field(default_factory=dict)
    steps: int = 0


class Descent:
    """A loop over players.

    Args:
        players: who moves; at each step in this order.
        length: how many steps, and whose turn it is at each of them.
        batch_size: rows a batch, where a term does not say otherwise.
        transform: changes the gradients of every player.
        adversary: changes the batches.
        average: keeps an average of the model's weights.
    """

    def __init__(
        self,
        *players: Player,
        length: Length,
        batch_size: int = 64,
        transform: Transform | None = None,
        adversary: Adversary | None = None,
        average: MovingAverage | None = None,
    ) -> None:
        self.players, self.length, self.batch_size = players, length, batch_size
        self.transform, self.adversary, self.average = transform, adversary, average

    @property
    def access(self) -> Access:
        """The roles and fields that the terms read, and the roles whose rows the length counts."""
        opened = Access(dict.fromkeys(self.length.roles, frozenset()))
        for player in self.players:
            for on in player.terms().values():
                opened |= Access(dict.fromkeys(on.roles, on.term.fields))
        return opened

    @property
    def needs(self) -> tuple[type, ...]:
        """The abilities that the terms need, each once."""
        found = (
            ability
            for player in self.players
            for on in player.terms().values()
            for ability in on.term.needs
        )
        return tuple(dict.fromkeys(found))

    def minimise(self, problem: Problem, run: Run, name: str = "descent") -> Descended:
        """Run the loop on copies of the problem's modules.

        ``name`` separates the checkpoints and random streams of several descents in one run.

        Raises:
            ExpungeError: there is no step, no parameter was selected, or a term or a weight is not
                finite.
        """
        return _State(self, problem, run, name).finished()


class _State:
    """Everything that a descent in progress consists of."""

    def __init__(self, descent: Descent, problem: Problem, run: Run, name: str) -> None:
        self.descent, self.problem, self.run, self.name = descent, problem, run, name
        originals = {"model": problem.model, **problem.companions}
        self.modules = {n: copy.deepcopy(m).to(run.device) for n, m in originals.items()}
        self.playing = {"model", *(p.module for p in descent.players)}
        for module in self.modules.keys() - self.playing:
            self.modules[module].eval().requires_grad_(False)
        self.total = descent.length.steps(self.rows, descent.batch_size)
        if self.total < 1:
            raise ExpungeError(
                f"The descent {name!r} has {self.total} steps and would change nothing; at least "
                "one is expected. Give it an epoch or more, and rows to pass over."
            )
        self.step = 0
        self.movers = [
            Mover(f"{name}/{i}", player, self.setting(), descent.batch_size)
            for i, player in enumerate(descent.players)
        ]
        self.averaged = {n: p.detach().clone() for n, p in self._moving() if descent.average}

    def rows(self, role: Role) -> int:
        return len(self.problem.data[role])

    @cached_property
    def path(self) -> Path | None:
        folder = self.run.checkpoints
        return None if folder is None else folder / f"{self.name}.safetensors"

    @cached_property
    def frozen(self) -> nn.Module:
        copied = copy.deepcopy(self.problem.model).to(self.run.device).eval()
        return copied.requires_grad_(False)

    @cached_property
    def identity(self) -> str:
        """Digest of everything that the end of this descent depends on, its data among it."""
        asked = self.problem.request.digest(), digest_of(self.problem.model), self.run.seed
        others = [(n, digest_of(m)) for n, m in sorted(self.problem.companions.items())]
        rows = [
            (name, digest_of_samples(stream.samples, stream.fields))
            for mover in self.movers
            for name, stream in mover.streams.items()
        ]
        parts = repr((vars(self.descent), self.total, rows, others, self.run.precision, asked))
        return hashlib.sha256(re.sub(" at 0x[0-9a-f]+", "", parts).encode()).hexdigest()

    def setting(self) -> Setting:
        return Setting(
            self.problem, self.modules, lambda: self.frozen, self.run, self.step, self.total
        )

    def _moving(self) -> Iterator[tuple[str, nn.Parameter]]:
        names = {n for m in self.movers if m.player.module == "model" for n in m.names}
        return (item for item in self.modules["model"].named_parameters() if item[0] in names)

    def finished(self) -> Descended:
        """Run, or resume, to the last step."""
        trained = {p.module for p in self.descent.players if p.training}
        required = [(p, p.requires_grad) for m in self.modules.values() for p in m.parameters()]
        modes = [(part, part.training) for m in self.modules.values() for part in m.modules()]
        for module_name, module in self.modules.items():
            if module_name not in trained:
                module.eval()
            elif not module.training:  # else the owner's mode of every submodule stands
                module.train()
            module.requires_grad_(False)
        self._rest()
        if self.path is not None and self.path.exists():
            stored = Bundle.load(self.path)
            if stored.facts.get("identity") == self.identity:  # else it is of another descent
                self._restore(stored)
        with self.run.progress(self.name, self.total) as bar:
            while self.step < self.total:
                self._one_step()
                bar.advance()
                if self.path is not None and self.step % self.run.checkpoint_every == 0:
                    self._bundle().save(self.path)
        with torch.no_grad():
            for name, parameter in self._moving():
                if self.descent.average:
                    parameter.copy_(self.averaged[name])
        for parameter, needed in required:
            parameter.requires_grad_(needed)
        for part, training in modes:
            part.training = training
        self._check()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        companions = {n: self.modules[n] for n in self.playing - {"model"}}
        return Descended(self.modules["model"], companions, self.total)

    def _rest(self) -> None:
        """Put the submodules of which nothing moves into evaluation mode: a frozen batch norm keeps
        its statistics."""
        moving = {id(p) for mover in self.movers for p in mover.parameters}
        for name in self.playing:
            for part in self.modules[name].modules():
                own = {id(p) for p in part.parameters()}
                if own and not own & moving:
                    part.eval()

    def _one_step(self) -> None:
        descent, setting = self.descent, self.setting()
        turn = descent.length.turn(self.step, self.rows, descent.batch_size)
        for mover in self.movers:
            if mover.player.moves_at(self.step):
                mover.move(setting, turn, descent.transform, descent.adversary)
        if self.descent.average:
            for name, parameter in self._moving():
                self.averaged[name].lerp_(parameter.detach(), 1 - self.descent.average.decay)
        self.step += 1

    def _check(self) -> None:
        for name, module in self.modules.items():
            for key, parameter in module.named_parameters():
                if not bool(torch.isfinite(parameter).all()):
                    raise ExpungeError(
                        f"The parameter {key!r} of {name!r} is no longer finite after the "
                        "descent; finite weights are expected. Lower the learning rate."
                    )

    def _bundle(self) -> Bundle:
        tensors: dict[str, Tensor] = {f"average/{n}": t for n, t in self.averaged.items()}
        for name in self.playing:
            module = self.modules[name]
            tensors |= {f"module/{name}/{k}": t for k, t in module.state_dict().items()}
        for i, mover in enumerate(self.movers):
            tensors |= {
                f"optimiser/{i}/{k}": t for k, t in optimiser_tensors(mover.optimiser).items()
            }
            for term, stream in mover.streams.items():
                tensors |= {f"stream/{i}/{term}/{k}": t for k, t in stream.state().items()}
            for term, generator in mover.draws.items():
                tensors[f"draw/{i}/{term}"] = generator.get_state()
        facts = {"step": self.step, "identity": self.identity}
        return Bundle({k: t.clone() for k, t in tensors.items()}, facts)

    def _restore(self, bundle: Bundle) -> None:
        tensors = dict(bundle.tensors)

        def under(prefix: Sequence[object]) -> dict[str, Tensor]:
            start = "/".join(map(str, prefix)) + "/"
            return {k[len(start) :]: t for k, t in tensors.items() if k.startswith(start)}

        self.step = int(str(bundle.facts["step"]))
        self.averaged = {n: t.to(self.run.device) for n, t in under(["average"]).items()}
        for name in self.playing:
            self.modules[name].load_state_dict(under(["module", name]))
        for i, mover in enumerate(self.movers):
            restore_optimiser(mover.optimiser, under(["optimiser", i]))
            for term, stream in mover.streams.items():
                stream.restore(under(["stream", i, term]))
            for term, generator in mover.draws.items():
                generator.set_state(tensors[f"draw/{i}/{term}"])
