"""The pieces of the benchmark: training, tuning, answering one request, answering a stream.

A result holds what was measured of one model, and nothing that depends on others: distances to the
oracles are taken where results come together.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor, nn

from expunge import registry
from expunge.aggregation.compose import compose
from expunge.attacks.relearning import Relearning
from expunge.audit.case import reason_of
from expunge.audit.gap import Scores
from expunge.audit.kept_models import KeptModels
from expunge.audit.tuning import Evaluation, Trials
from expunge.benchmarks.facts.world import Place, World
from expunge.benchmarks.jobs import Result, key_of
from expunge.changes.delta import Delta
from expunge.changes.history import Epoch, History
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples, TensorSamples, all_but
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError
from expunge.methods.presets import AtPreset, HasPreset, fields_of, presets_of
from expunge.methods.protocol import Method
from expunge.methods.search import space_of
from expunge.recipe import Role
from expunge.requests import Request
from expunge.run import Run
from expunge.signals.ask import ask

Mode = Literal["preset", "published", "tuned"]
Parameters = tuple[tuple[str, Any], ...]

RELEARNED = 0.5
"""Share of the forgotten facts that relearning brings back."""

ATTACK = AdamW(3e-4)
STEPS = 40
"""How relearning descends, one batch of all that is shown a step, and how long."""


@dataclass(frozen=True)
class Training:
    """Train the base, or the oracle without the first people."""

    place: Place
    without: int
    seed: int

    @property
    def title(self) -> str:
        """Draw, what is trained, seed."""
        what = f"oracle without {self.without} people" if self.without else "base"
        return f"draw {self.place.draw}: {what}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, who is left out, seed."""
        return {**self.place.training_facts(), "without": self.without, "seed": self.seed}

    def done(self) -> Result:
        """Train and keep the model."""
        run, start = Run(self.seed), time.process_time()
        model = self._made(run)
        seconds = time.process_time() - start
        KeptModels(self._folder).get(key_of(self), model, lambda: model)
        touched = sum(run.meter.touched.values())
        return {"seconds": seconds, "touched": touched, "model": digest_of(model)}

    def model(self) -> nn.Module:
        """The kept model; trained again where its file is gone."""
        untrained = self.place.world.recipe(self.seed).builder(self.seed)
        folder = KeptModels(self._folder)
        return folder.get(key_of(self), untrained, lambda: self._made(Run(self.seed)))[0]

    @property
    def _folder(self) -> Any:
        return self.place.folder / "models"

    def _made(self, run: Run) -> nn.Module:
        world = self.place.world
        rows = world.about(world.train, self.without, world.size.people)
        recipe = world.recipe(self.seed)
        return recipe.make({Role.TRAIN: world.train.select(rows)}, run).model


@dataclass(frozen=True)
class Describing:
    """What a base or an oracle answers about the first people and about all others."""

    training: Training
    gone: int

    @property
    def title(self) -> str:
        """That of the training, and that it is asked."""
        return f"{self.training.title}: asked about {self.gone} people"

    def depends_on(self) -> Mapping[str, object]:
        """The training and the people."""
        return {**self.training.depends_on(), **self.training.place.facts(), "gone": self.gone}

    def done(self) -> Result:
        """Everything that is measured of any model."""
        world, seed = self.training.place.world, self.training.seed
        return figures(world, self.training.model(), self.gone, Run(seed))


@dataclass(frozen=True)
class Asking:
    """One method in one mode on the base of one seed; ``parameters`` are for the mode tuned."""

    place: Place
    method: str
    source: str
    mode: Mode
    seed: int
    parameters: Parameters = ()

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        own = {name: getattr(self, name) for name in ("method", "source", "mode", "seed")}
        return {**self.place.facts(), **own, "parameters": [list(p) for p in self.parameters]}

    def deployment(self) -> Any:
        """The base of the seed in use."""
        base = Training(self.place, 0, self.seed).model()
        return self.place.world.deployment(base, self.seed)

    def made(self, sequential: bool = False) -> Method:
        """The method as the mode says."""
        kind = registry.load("methods", self.method)
        given = {"sequential": True} if sequential else {}
        method: Method = kind(**dict(self.parameters), **given)
        return AtPreset.of(method, tuple(given)) if self.mode == "preset" else method


@dataclass(frozen=True)
class Answering:
    """Let a method forget the first people at once."""

    asking: Asking

    @property
    def title(self) -> str:
        """Draw, method, mode, seed."""
        a = self.asking
        return f"draw {a.place.draw}: {a.method}, {a.mode}, seed {a.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """The asking."""
        return self.asking.facts()

    def done(self) -> Result:
        """Figures and cost; or why the method refused or failed."""
        asking, run = self.asking, Run(self.asking.seed)
        world, deployment = asking.place.world, asking.deployment()
        method, start = asking.made(), time.process_time()
        try:
            entry = deployment.forget(world.corner(), method, run)
            seconds, model = time.process_time() - start, deployment.model
        except ExpungeError as error:
            return {"refused": reason_of(error), "touched": sum(run.meter.touched.values())}
        except Exception as error:  # a method may fail in any way; the others go on
            return {"failed": reason_of(error)}
        return {
            **figures(world, model, world.size.corner, Run(asking.seed)),
            "touched": sum(run.meter.touched.values()),
            "seconds": seconds,
            "fields": presets_of(entry.changes) or fields_of(method),
            "retain-free": retain_free(method),
        }


@dataclass(frozen=True)
class Streaming:
    """Let a method answer requests for two people one after another."""

    asking: Asking
    length: int
    sequential: bool
    rules: tuple[str, ...]

    @property
    def title(self) -> str:
        """Draw, method, mode, requests, seed."""
        a, how = self.asking, "from the current model" if self.sequential else "from the base"
        return (
            f"draw {a.place.draw}: {a.method}, {a.mode}, {self.length} requests {how}, "
            f"seed {a.seed}"
        )

    def depends_on(self) -> Mapping[str, object]:
        """The asking, the requests, the rules."""
        own = {"length": self.length, "sequential": self.sequential, "rules": list(self.rules)}
        return {**self.asking.facts(), **own}

    def done(self) -> Result:
        """By rule the accuracy on every request, and on nobody's, before and after each step."""
        asking, run = self.asking, Run(self.asking.seed)
        world, deployment = asking.place.world, asking.deployment()
        requests, method = world.stream(self.length), asking.made(self.sequential)
        panel, base = Panel(world, requests), deployment.base
        before, start = panel.scored(base, run), time.process_time()
        steps: list[dict[str, Any]] = []
        for place, request in enumerate(requests):
            try:
                deployment.forget(request, method, run)
            except ExpungeError as error:
                reason = f"at request {place + 1}: {reason_of(error)}"
                return {"refused": reason, "touched": sum(run.meter.touched.values())}
            except Exception as error:  # a method may fail in any way; the others go on
                return {"failed": reason_of(error)}
            if self.sequential:
                steps.append(panel.scored(deployment.model, run))
        seconds, touched = time.process_time() - start, sum(run.meter.touched.values())
        if self.sequential:
            found = {"sequential": steps}
        else:
            found = _folded(base, deployment.history, self.rules, panel, run)
        return {"before": before, "steps": found, "touched": touched, "seconds": seconds}


@dataclass(frozen=True)
class Tuning:
    """Tune one method on a draw of people that nothing is reported on."""

    asking: Asking
    trials: int

    @property
    def title(self) -> str:
        """Draw and method."""
        return f"draw {self.asking.place.draw}: tune {self.asking.method}"

    def depends_on(self) -> Mapping[str, object]:
        """The asking and the number of trials."""
        return {**self.asking.facts(), "trials": self.trials}

    def done(self) -> Result:
        """The best parameters, None where every trial failed; and what each gave."""
        asking, name = self.asking, self.asking.method
        world, kind = asking.place.world, registry.load("methods", name)
        base = Training(asking.place, 0, asking.seed).model()
        gone = world.size.corner

        def objective(method: Method) -> Evaluation:
            run, deployment = Run(asking.seed), world.deployment(base, asking.seed)
            deployment.forget(world.corner(), method, run)
            forget, retain = right_about(world, deployment.model, gone, run)
            parts = {"forget": forget, "retain": 1 - retain}
            return Evaluation(fmean(parts.values()), parts, Scores((), (), retain), 0.0)

        trials = Trials(asking.place.folder / "trials" / f"{key_of(self)}.db")
        preset = AtPreset.of(kind()) if isinstance(kind(), HasPreset) else None
        found = trials.tune(
            name,
            key_of(self),
            space_of(kind),
            lambda parameters: _with(kind, parameters),
            objective,
            self.trials,
            asking.seed,
            preset=preset,
        )
        best = found.best
        return {
            "parameters": None if best is None else dict(best.parameters),
            "preset": best is not None and best.preset,
            "trials": [
                {"parameters": dict(t.parameters), "gap": t.gap, "reason": t.reason}
                | dict(t.figures)
                for t in found.trials
            ],
        }


def figures(world: World, model: nn.Module, gone: int, run: Run) -> dict[str, Any]:
    """What a model knows about the first ``gone`` people and all others, and how soon it learns.

    ``log probability`` is a list: of each forgotten fact the mean log-probability of its answer
    tokens in nats, over the phrasings that are trained for everybody. ``relearned`` is the first
    step after which half of the forgotten facts are answered again, None where that does not
    happen; ``from others`` the largest share of the facts about one half of the people that is
    answered while those about the other half are shown.
    """
    train, others = world.train, world.paraphrases
    forget = train.select(world.about(train, 0, gone))
    same = world.alike(forget)
    asked = ask(world.family, model, same, run)
    losses = asked.query("loss")[0]
    phrasings = len(same) // len(world.once(forget))
    retain = train.select(world.about(train, gone, world.size.people))
    return {
        "forget": _right(world, model, forget, run),
        "retain": _right(world, model, retain, run),
        "forget paraphrase": _right(world, model, others.select(world.about(others, 0, gone)), run),
        "retain paraphrase": _right(
            world, model, others.select(world.about(others, gone, world.size.people)), run
        ),
        "log probability": (-losses.reshape(-1, phrasings).mean(1)).tolist(),
        "relearned": _relearned(world, model, world.once(forget), run),
        "from others": _from_others(world, model, forget, gone, run),
    }


def right_about(world: World, model: nn.Module, gone: int, run: Run) -> tuple[float, float]:
    """Shares of the training rows about the first people and about the others that are answered."""
    train = world.train
    parts = (world.about(train, 0, gone), world.about(train, gone, world.size.people))
    forget, retain = (_right(world, model, train.select(rows), run) for rows in parts)
    return forget, retain


def retain_free(method: Method) -> bool:
    """Whether a method sees nothing but the forget set."""
    seen = {*method.prepares_with.roles, *method.unlearns_with.roles}
    return not seen & {Role.RETAIN, Role.TRAIN}


class Panel:
    """The training rows by the request that names them, and those that none names."""

    def __init__(self, world: World, requests: Sequence[Request]) -> None:
        self._world = world
        self._rows = [request.target.rows(world.people.table) for request in requests]
        self._others = all_but(len(world.train), torch.cat(self._rows))

    def scored(self, model: nn.Module, run: Run) -> dict[str, Any]:
        """Shares that are answered: ``requests`` (T) and ``retain``."""
        right = _answered(self._world, model, self._world.train, run)
        requests = [float(right[rows].mean()) for rows in self._rows]
        return {"requests": requests, "retain": float(right[self._others].mean())}


def _folded(
    base: nn.Module, history: History, rules: Sequence[str], panel: Panel, run: Run
) -> dict[str, list[dict[str, Any]]]:
    """By rule, what the model scores after each step; one rule where no Delta is combined."""
    epoch = history.current
    deltas = any(isinstance(change, Delta) for entry in epoch.served for change in entry.changes)
    found = {}
    for name in rules if deltas else rules[:1]:
        rule = registry.load("aggregations", name)()
        found[name if deltas else "side by side"] = [
            panel.scored(compose(base, Epoch(epoch.base, epoch.served[: place + 1]), rule), run)
            for place in range(len(epoch.served))
        ]
    return found


def _answered(world: World, model: nn.Module, samples: Samples, run: Run) -> Tensor:
    """1 for each row (n,) that greedy decoding answers exactly, else 0."""
    return ask(world.family, model, samples, run).query("correct")[0]


def _right(world: World, model: nn.Module, samples: Samples, run: Run) -> float:
    return float(_answered(world, model, samples, run).mean())


def _relearned(world: World, model: nn.Module, facts: TensorSamples, run: Run) -> int | None:
    """Steps on the forgotten facts themselves until half of them are answered."""
    attack = Relearning(STEPS, len(facts), ATTACK)
    curve = attack.followed(model, world.family, facts, lambda m: _right(world, m, facts, run), run)
    return next((step for step, share in enumerate(curve) if share >= RELEARNED), None)


def _from_others(
    world: World, model: nn.Module, forget: TensorSamples, gone: int, run: Run
) -> float:
    """The most that is answered about one half of the people while the other half is shown."""
    facts = world.once(forget)
    shown, asked = (
        facts.select(world.about(facts, start, stop))
        for start, stop in ((0, gone // 2), (gone // 2, gone))
    )
    attack = Relearning(STEPS, len(shown), ATTACK)
    return max(attack.curve(model, world.family, shown, asked, run))


def _with(kind: type, parameters: Mapping[str, Any]) -> Method:
    names = {field.name for field in dataclasses.fields(kind)}
    method: Method = kind(**{n: v for n, v in parameters.items() if n in names})
    return method
