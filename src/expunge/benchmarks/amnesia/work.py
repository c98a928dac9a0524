"""The pieces of the benchmark: tracing a base, and forgetting by moving some of its layers.

The world is that of the benchmark of facts with a deeper model. Every choice of what moves is
trained with the same joint loss, rows, draws and number of steps; what moves and how far a step
leads are all that differs.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from expunge.audit.case import digest_of_rooms, reason_of, source_of
from expunge.benchmarks.facts.work import Training, figures, right_about
from expunge.benchmarks.facts.world import Place, Size, World
from expunge.benchmarks.jobs import Result
from expunge.changes.weights import stored_tensors
from expunge.data.samples import TensorSamples
from expunge.descent.layer_selections import Mlps
from expunge.descent.loop import Descent
from expunge.descent.player import Trainable
from expunge.errors import ExpungeError
from expunge.methods.presets import typical_weight
from expunge.methods.selective_amnesia import SelectiveAmnesia
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.ask import ask
from expunge.signals.causal_tracing import EffectMap

SIZE = Size(layers=8, width=96, inner=288, epochs=70)
"""The eight layers of the check; the facts of the benchmark of facts."""

MATCHED = 0.06
"""Share of the forgotten facts that is answered at most where choices are compared: chance, .01,
and five points."""

EPOCHS, LOOK, LOOKED_AT = 20, 4, 150
"""Passes over the forget set, two steps each; steps between two looks; retain rows of a look."""

FORGET_WEIGHT, RETAIN_ROWS = 0.3, 64
"""Weight of the ascent, and retain rows a step: those of the preset."""


def method_of(layers: tuple[int, ...] | None, rate: float, rows: int) -> SelectiveAmnesia:
    """The joint loss at a learning rate; ``layers`` are given, so that nothing is traced again."""
    return SelectiveAmnesia(
        layers=layers or (0,),
        epochs=EPOCHS,
        learning_rate=rate,
        batch_size=(rows + 1) // 2,
        retain_batch_size=RETAIN_ROWS,
        forget_weight=FORGET_WEIGHT,
    )


@dataclass(frozen=True)
class Tracing:
    """Where restoring a state of a base brings the facts of the request back."""

    training: Training
    window: int | None

    @property
    def title(self) -> str:
        """That of the training, and the layers that are put back together."""
        wide = "as the method" if self.window is None else f"{self.window} layer at once"
        return f"{self.training.title}: traced, {wide}"

    def depends_on(self) -> Mapping[str, object]:
        """The training, the code of the method, the window."""
        own = {"source": _source(), "window": self.window}
        return {**self.training.depends_on(), **self.training.place.facts(), **own}

    def done(self) -> Result:
        """Effects (kinds, layers, places), None where there are none, and what noise takes away."""
        found = self._map()
        effects = [
            [[None if math.isnan(one) else one for one in row] for row in kind]
            for kind in found.effects.tolist()
        ]
        told = {name: getattr(found, name) for name in ("clean", "corrupted", "facts", "wrong")}
        return {"effects": effects, **told}

    def _map(self) -> EffectMap:
        training = self.training
        deployment = training.place.world.deployment(training.model(), training.seed)
        method = SelectiveAmnesia(window=self.window)
        problem = deployment.problem(training.place.world.corner(), method)
        return method.tracing.traced(deployment.base, problem, Run(training.seed))


def _source() -> list[str]:
    """Digests of the code of the method and of this benchmark."""
    return [source_of(SelectiveAmnesia), digest_of_rooms(("benchmarks/amnesia",))]


def map_of(result: Result) -> EffectMap:
    """The map of a stored tracing."""
    effects = torch.tensor(
        [
            [[float("nan") if one is None else one for one in row] for row in kind]
            for kind in result["effects"]
        ]
    )
    return EffectMap(
        effects, result["clean"], result["corrupted"], result["facts"], result["wrong"]
    )


@dataclass(frozen=True)
class Forgetting:
    """Forget the first people by moving the feed-forward parts of some layers, or everything.

    Args:
        place: where it stands.
        seed: of the base and of the descent.
        choice: what the layers are called.
        layers: their positions; None to move all weights.
        stride: share of a typical weight that a step moves each weight by.
    """

    place: Place
    seed: int
    choice: str
    layers: tuple[int, ...] | None
    stride: float

    @property
    def title(self) -> str:
        """Draw, choice, layers, stride, seed."""
        moved = "" if self.layers is None else f" ({', '.join(map(str, self.layers))})"
        return (
            f"draw {self.place.draw}: {self.choice}{moved}, stride {self.stride:g}, "
            f"seed {self.seed}"
        )

    def depends_on(self) -> Mapping[str, object]:
        """The world, the code of the method, what moves and how far."""
        layers = None if self.layers is None else list(self.layers)
        own = {"seed": self.seed, "layers": layers, "stride": self.stride}
        return {**self.place.facts(), "source": _source(), **own}

    def done(self) -> Result:
        """The curve over steps; under ``matched`` everything about the step that keeps most of
        those at which the facts are gone, None where they never are; and the end. ``kept bits`` is
        whether all that was not to move has its bits."""
        world, run = self.place.world, Run(self.seed)
        base = Training(self.place, 0, self.seed).model()
        problem = world.deployment(base, self.seed).problem(world.corner(), SelectiveAmnesia())
        looks = Looks(world, problem, self.seed)
        descent = self._descent(problem)
        try:
            after = descent.minimise(problem.opened(descent.access), run, each=looks).model
        except ExpungeError as error:  # a loss that is no longer finite ends a curve
            return {"curve": looks.curve, "matched": None, "stopped": reason_of(error)}
        forget, retain = right_about(world, after, world.size.corner, Run(self.seed))
        return {
            "curve": looks.curve,
            "matched": looks.described(),
            "end": {"forget": forget, "retain": retain},
            "kept bits": self._held(base, after, problem),
        }

    def _descent(self, problem: Problem) -> Descent:
        rate = self.stride * typical_weight(problem)
        found = method_of(self.layers, rate, len(problem.data[Role.FORGET])).descent()
        if self.layers is not None:
            return found
        [player] = found.players
        whole = replace(player, parameters=Trainable())
        return Descent(whole, length=found.length, batch_size=found.batch_size)

    def _held(self, base: nn.Module, after: nn.Module, problem: Problem) -> bool:
        moving = (
            set(stored_tensors(base))
            if self.layers is None
            else set(Mlps(self.layers).select(base, problem, Run()))
        )
        before, now = stored_tensors(base), stored_tensors(after)
        return all(torch.equal(before[name], now[name]) for name in before if name not in moving)


class Looks:
    """What a model answers every few steps, and a copy of the one that keeps most of those at which
    the facts are gone; of equal ones the first."""

    def __init__(self, world: World, problem: Problem, seed: int) -> None:
        self.world, self.seed = world, seed
        forget, retain = (problem.data[role] for role in (Role.FORGET, Role.RETAIN))
        assert isinstance(forget, TensorSamples)
        assert isinstance(retain, TensorSamples)
        order = torch.randperm(len(retain), generator=Run(seed).generator("amnesia/looks"))
        self.forget, self.retain = forget, retain.select(order[:LOOKED_AT])
        self.curve: list[list[float]] = []  # as it is stored and read again
        self.matched: tuple[int, nn.Module] | None = None
        self.most = -1.0

    def __call__(self, step: int, model: nn.Module) -> None:
        """Look at every few steps."""
        if step % LOOK:
            return
        forget, retain = (self._right(model, rows) for rows in (self.forget, self.retain))
        self.curve.append([step, forget, retain])
        if forget <= MATCHED and retain > self.most:
            # in a descent only what moves has a gradient, and relearning moves all
            self.matched = step, copy.deepcopy(model).requires_grad_(True)
            self.most = retain

    def described(self) -> dict[str, Any] | None:
        """The step, and everything that is measured of any model; None where it never came."""
        if self.matched is None:
            return None
        step, model = self.matched
        found = figures(self.world, model, self.world.size.corner, Run(self.seed))
        return {"step": step, **found}

    def _right(self, model: nn.Module, rows: TensorSamples) -> float:
        return float(ask(self.world.family, model, rows, Run()).query("correct").mean())
