"""Everything that a descent in progress consists of, and the checkpoint that it is resumed from."""

import copy
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from expunge.changes.weights import digest_of
from expunge.descent.best import Best
from expunge.descent.checkpoint import digest_of_samples, optimiser_tensors, restore_optimiser
from expunge.descent.mover import Mover
from expunge.descent.player import Opens, Setting
from expunge.errors import ExpungeError
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.storage import Bundle, digest

if TYPE_CHECKING:
    from expunge.descent.loop import Descent

Each = Callable[[int, nn.Module], object]
"""What is called after each step, with the number of steps so far and the live model."""


class State:
    """The modules, movers, averages and best iterate of one descent, and the step it is at."""

    def __init__(
        self, descent: "Descent", problem: Problem, run: Run, name: str, each: Each | None = None
    ) -> None:
        self.descent, self.problem, self.run, self.name = descent, problem, run, name
        self.each, self.best = each, Best()
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
        self.step, self.reached = 0, False
        self.movers = [
            Mover(
                f"{name}/{i}",
                player,
                self.setting(),
                descent.batch_size,
                drawn=f"{name}/{i if player.batches is None else player.batches}",
            )
            for i, player in enumerate(descent.players)
        ]
        # terms asked it as they started: beside the model that moves it would double the memory
        self.__dict__.pop("frozen", None)
        self.averaged = {n: p.detach().clone() for n, p in self.moving() if descent.average}

    def rows(self, role: Role) -> int:
        """The number of rows of a role."""
        return len(self.problem.data[role])

    @cached_property
    def path(self) -> Path | None:
        """Where the checkpoint lies; None where there is none."""
        folder = self.run.checkpoints
        if folder is None or self.each is not None:
            return None
        return folder / f"{self.name}.safetensors"

    @cached_property
    def frozen(self) -> nn.Module:
        """The model as it was at the start."""
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
        rows += [
            (name, digest_of_samples(self.problem.data[role], fields))
            for mover in self.movers
            for name, on in mover.terms.items()
            if isinstance(on.source, Opens)
            for role, fields in on.source.access.roles.items()
        ]
        if keep := self.descent.keep:
            rows.append(
                (keep.role, digest_of_samples(self.problem.data[keep.role], keep.score.fields))
            )
        if self.problem.support:
            others.append(("support", digest(self.problem.support)))
        parts = repr((vars(self.descent), self.total, rows, others, self.run.precision, asked))
        return hashlib.sha256(re.sub(" at 0x[0-9a-f]+", "", parts).encode()).hexdigest()

    def setting(self) -> Setting:
        """What the terms may look at in the present step."""
        return Setting(
            self.problem, self.modules, lambda: self.frozen, self.run, self.step, self.total
        )

    def moving(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters of the model that some player moves."""
        names = {n for m in self.movers if m.player.module == "model" for n in m.names}
        return (item for item in self.modules["model"].named_parameters() if item[0] in names)

    def players(self) -> dict[str, nn.Module]:
        """The live modules: the model, and every companion that plays."""
        return {name: self.modules[name] for name in sorted(self.playing)}

    def bundle(self) -> Bundle:
        """A checkpoint of the present step."""
        tensors: dict[str, Tensor] = {f"average/{n}": t for n, t in self.averaged.items()}
        for name, module in self.players().items():
            tensors |= {f"module/{name}/{k}": t for k, t in module.state_dict().items()}
        tensors |= {f"best/{k}": t for k, t in self.best.tensors.items()}
        for i, mover in enumerate(self.movers):
            tensors |= {
                f"optimiser/{i}/{k}": t for k, t in optimiser_tensors(mover.optimiser).items()
            }
            for term, stream in mover.streams.items():
                tensors |= {f"stream/{i}/{term}/{k}": t for k, t in stream.state().items()}
            for term, generator in mover.draws.items():
                tensors[f"draw/{i}/{term}"] = generator.get_state()
            for term, evolving in mover.evolving().items():
                tensors |= {f"term/{i}/{term}/{k}": t for k, t in evolving.state().items()}
        facts: dict[str, object] = {"step": self.step, "identity": self.identity}
        if self.best.tensors:
            facts |= {"best": self.best.step, "best score": self.best.score}
        return Bundle({k: t.clone() for k, t in tensors.items()}, facts)

    def restore(self, bundle: Bundle) -> None:
        """Go back to a checkpoint."""
        tensors = dict(bundle.tensors)

        def under(prefix: Sequence[object]) -> dict[str, Tensor]:
            start = "/".join(map(str, prefix)) + "/"
            return {k[len(start) :]: t for k, t in tensors.items() if k.startswith(start)}

        self.step = int(str(bundle.facts["step"]))
        self.averaged = {n: t.to(self.run.device) for n, t in under(["average"]).items()}
        for name, module in self.players().items():
            module.load_state_dict(under(["module", name]))
        if "best" in bundle.facts:
            self.best.step = int(str(bundle.facts["best"]))
            self.best.score = float(str(bundle.facts["best score"]))
            self.best.tensors = under(["best"])
        for i, mover in enumerate(self.movers):
            restore_optimiser(mover.optimiser, under(["optimiser", i]))
            for term, stream in mover.streams.items():
                stream.restore(under(["stream", i, term]))
            for term, generator in mover.draws.items():
                generator.set_state(tensors[f"draw/{i}/{term}"])
            for term, evolving in mover.evolving().items():
                evolving.restore(under(["term", i, term]))
