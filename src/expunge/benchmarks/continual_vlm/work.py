"""The pieces of the benchmark: bases, oracles, vectors, strengths, rules, methods in a row, curves.

A vector is made once and shared by all rules and orders. The end of a rule that does not depend on
the order is matched once for all orders. Strengths are found on the validation vendor; what is
reported is of the test vendor.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from expunge import registry
from expunge.attacks.relearning import Relearning
from expunge.audit.case import described, digest_of_rooms
from expunge.audit.kept_models import KeptModels
from expunge.audit.measure import Measured, Panel, measure
from expunge.benchmarks import demo, shipped
from expunge.benchmarks.continual_emoji import TOLERANCE
from expunge.benchmarks.continual_vlm import unseen, world
from expunge.benchmarks.continual_vlm.kinds import KINDS, SEQUENTIAL
from expunge.benchmarks.continual_vlm.measuring import (
    alone,
    cells,
    combined,
    conflicts,
    factor_at,
    followed,
    matched_factor,
    of_end,
    size_of,
)
from expunge.benchmarks.jobs import Result, key_of
from expunge.changes.delta import Delta
from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data.samples import all_but
from expunge.descent.optimisers import AdamW
from expunge.errors import IntegrityError
from expunge.methods.protocol import Artifact, SharesPreparation, unlearn
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST, Rows
from expunge.run import Run

TRAINED_BY = ("data", "descent", "families", "learning", "models")
MADE_BY = (
    *TRAINED_BY,
    "changes",
    "methods",
    "signals",
    *(f"benchmarks/continual_vlm/{name}.py" for name in ("measuring", "work", "world")),
)
CODE = (
    *MADE_BY,
    "aggregation",
    "attacks",
    "audit",
    *(f"benchmarks/continual_vlm/{name}.py" for name in ("strengths", "unseen")),
)
"""Rooms and files that a training, that vectors, and that every other result depends on."""

POINTS = demo.POINTS
"""Retained accuracy that matched rows give up, on the validation vendor."""

ATTACK = Relearning(demo.RELEARNING_STEPS, 10_000, AdamW(demo.RELEARNING_RATE))
"""Relearning: all that is shown in every step."""

SHARES = (0.25, 0.5, 0.71, 1.0, 1.41, 2.0)
"""Lengths of a curve, as multiples of the matched one."""

Order = tuple[str, ...]


@dataclass(frozen=True)
class Training:
    """The base of a seed, or its oracle: the same recipe and seed without some groups."""

    folder: Path
    seed: int
    without: Order = ()

    @property
    def title(self) -> str:
        """What is trained, and the seed."""
        what = f"oracle without {len(self.without)} groups" if self.without else "base"
        return f"{what}, seed {self.seed}"

    @property
    def is_shipped(self) -> bool:
        """Whether the package holds it: the base of seed 0, and its oracle of the demo's groups."""
        return self.seed == 0 and (not self.without or set(self.without) == set(demo.GROUPS))

    def depends_on(self) -> Mapping[str, object]:
        """The seed, the concepts that are left out, the recipe, and the code that trains."""
        asked = {name: list(world.members(name)) for name in sorted(self.without)}
        return {
            "seed": self.seed,
            "without": asked,
            "learner": described(shipped.EMOJI_LEARNER),
            "copies": shipped.COPIES,
            "code": digest_of_rooms(TRAINED_BY),
        }

    def done(self) -> Result:
        """Train and keep the model."""
        start = time.process_time()
        made = self.model()
        return {"seconds": time.process_time() - start, "model": digest_of(made)}

    def model(self) -> nn.Module:
        """The model: shipped, kept, or trained now."""
        return _model(self)


@functools.lru_cache(maxsize=4)
def _model(training: Training) -> nn.Module:
    if training.is_shipped:
        base = shipped.emoji_base()
        return shipped.emoji_oracle_delta().applied_to(base) if training.without else base
    untrained = world.training().recipe.builder(training.seed)
    folder = KeptModels(training.folder / "models")
    return folder.get(key_of(training), untrained, lambda: _trained(training))[0]


def _trained(training: Training) -> nn.Module:
    work = world.training()
    asked = tuple(subject for name in training.without for subject in world.members(name))
    gone = Rows("subject", asked).rows(work.table) if asked else torch.empty(0, dtype=torch.int64)
    rows = work.data[Role.TRAIN].select(all_but(len(work.table), gone))
    recipe = work.recipe.with_seed(training.seed)
    return recipe.make({Role.TRAIN: rows}, Run(training.seed)).model


@dataclass(frozen=True)
class Knowing:
    """What the base of a seed knows of groups."""

    training: Training
    names: Order

    @property
    def title(self) -> str:
        """The seed and how many groups."""
        return f"seed {self.training.seed}: what the base knows of {len(self.names)} groups"

    def depends_on(self) -> Mapping[str, object]:
        """The base and the concepts of the groups."""
        asked = {name: list(world.members(name)) for name in self.names}
        return {**self.training.depends_on(), "groups": asked}

    def done(self) -> Result:
        """By group the share of its validation pictures that is answered."""
        return {"known": world.known(self.training.model(), self.names, Run(self.training.seed))}


@dataclass(frozen=True)
class Course:
    """What is asked of one base.

    Args:
        folder: where models, vectors and results are kept.
        seed: of the base.
        groups: the requests, in the order of their draw.
        askable: all groups that might have been drawn.
    """

    folder: Path
    seed: int
    groups: Order
    askable: Order

    @property
    def base(self) -> nn.Module:
        """The model before any request."""
        return Training(self.folder, self.seed).model()

    @property
    def oracle(self) -> nn.Module:
        """The model retrained without all of them."""
        return Training(self.folder, self.seed, tuple(sorted(self.groups))).model()

    @property
    def name(self) -> str:
        """Seed and number of requests, for titles."""
        return f"seed {self.seed}, {len(self.groups)} requests"

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        members = {name: list(world.members(name)) for name in self.groups}
        return {
            "base": Training(self.folder, self.seed).depends_on(),
            "groups": members,
            "order": list(self.groups),
            "askable": list(self.askable),
            "points": POINTS,
            "tolerance": TOLERANCE,
            "relearning": [described(ATTACK), demo.RELEARNING_STYLE],
            "code": digest_of_rooms(CODE),
        }

    def facts_of_unseen(self) -> dict[str, object]:
        """The same of a result that holds answers to unseen sets."""
        return {**self.facts(), "unseen": unseen.digests()}

    def vector(self, kind: str, group: str) -> "Vector":
        """The job that makes the vector of one request."""
        return Vector(self.folder, self.seed, kind, group, self.askable)

    def floor(self) -> float:
        """Retained accuracy on validation that a matched model still has."""
        return _floor(self)


@functools.lru_cache(maxsize=4)
def _floor(course: Course) -> float:
    validation, _ = world.panels(course.groups)
    return _scored(course.base, validation, Run(course.seed)).retained - POINTS


class Savable(Protocol):
    """What is kept in a file."""

    def save(self, path: Path) -> None:
        """Write it."""
        ...


Made = TypeVar("Made", bound=Savable)


def _kept(load: Callable[[Path], Made], make: Callable[[], Made], path: Path) -> Made:
    """What is in a file; made again and kept where that is gone or damaged."""
    try:
        return load(path)
    except IntegrityError:
        made = make()
    made.save(path)
    return made


def _kept_now(base: Training, make: Callable[[], Made], path: Path) -> tuple[Made, float]:
    """What is made of a base and kept, and the seconds of one thread that making it took."""
    _opened(base)
    start = time.process_time()
    made = make()
    seconds = time.process_time() - start
    made.save(path)
    return made, seconds


@dataclass(frozen=True)
class Preparing:
    """What the methods of some kinds prepare from the training rows, before any request."""

    folder: Path
    seed: int
    kind: str

    @property
    def title(self) -> str:
        """Seed and kind."""
        return f"seed {self.seed}: what {self.kind} prepares"

    def depends_on(self) -> Mapping[str, object]:
        """The base, and all that the preparation depends on."""
        method = KINDS[self.kind]
        own = method.preparation if isinstance(method, SharesPreparation) else method
        return {
            "base": Training(self.folder, self.seed).depends_on(),
            "preparation": described(own),
            "code": digest_of_rooms(MADE_BY),
        }

    def done(self) -> Result:
        """Prepare and keep it; seconds of one thread, and bytes."""
        made, seconds = _kept_now(Training(self.folder, self.seed), self._made, self._path)
        return {"seconds": seconds, "bytes": size_of(made.tensors.values())}

    def artifact(self) -> Artifact:
        """What was kept; prepared again where its file is gone."""
        return _kept(Artifact.load_checked, self._made, self._path)

    @property
    def _path(self) -> Path:
        return self.folder / "prepared" / f"{key_of(self)}.safetensors"

    def _made(self) -> Artifact:
        base, method = Training(self.folder, self.seed).model(), KINDS[self.kind]
        data = {Role.TRAIN: world.work().data[Role.TRAIN]}
        history = History.of(digest_of(base))
        problem = Problem(base, world.work().recipe.family, NO_REQUEST, data, history)
        return method.prepare(problem.opened(method.prepares_with), Run(self.seed))


def prepares(kind: str) -> bool:
    """Whether something is prepared for the vectors of a kind."""
    return bool(KINDS[kind].prepares_with.roles)


@dataclass(frozen=True)
class Vector:
    """The change that answers one request alone, made from the base."""

    folder: Path
    seed: int
    kind: str
    group: str
    askable: Order

    @property
    def title(self) -> str:
        """Seed, kind and request."""
        return f"seed {self.seed}: {self.kind} vector of {self.group}"

    def depends_on(self) -> Mapping[str, object]:
        """The base, the request, the method, and what may be taken as retained."""
        return {
            "base": Training(self.folder, self.seed).depends_on(),
            "method": described(KINDS[self.kind]),
            "request": [described(request) for request in world.requests([self.group])],
            "askable": [list(world.members(name)) for name in self.askable],
            "code": digest_of_rooms(MADE_BY),
        }

    def done(self) -> Result:
        """Make it and keep it; seconds of one thread, length, and entries that are not 0."""
        made, seconds = _kept_now(Training(self.folder, self.seed), self._made, self._path)
        return {"seconds": seconds, "norm": made.norm(), "entries": made.count()}

    def delta(self) -> Delta:
        """The kept vector; made again where its file is gone."""
        return _kept(Delta.load, self._made, self._path)

    @property
    def _path(self) -> Path:
        return self.folder / "vectors" / f"{key_of(self)}.safetensors"

    def _made(self) -> Delta:
        base, run = Training(self.folder, self.seed).model(), Run(self.seed)
        train, [request] = world.work().data[Role.TRAIN], world.requests([self.group])
        rows = request.target.rows(world.work().table), world.reserve(self.askable)
        problem = alone(base, world.work().recipe.family, request, train, *rows)
        artifact = None
        if prepares(self.kind):
            artifact = Preparing(self.folder, self.seed, self.kind).artifact()
        [delta] = unlearn(KINDS[self.kind], problem, run, artifact).changes
        assert isinstance(delta, Delta)
        return delta


@dataclass(frozen=True)
class Describing:
    """What base and oracle answer, and how fast they learn what was asked for."""

    course: Course

    @property
    def title(self) -> str:
        """The course."""
        return f"{self.course.name}: base and oracle"

    def depends_on(self) -> Mapping[str, object]:
        """The course."""
        return self.course.facts_of_unseen()

    def done(self) -> Result:
        """Of each the cells of the test vendor, in the order of the draw."""
        course, run = self.course, Run(self.course.seed)
        validation, test = world.panels(course.groups)
        found: dict[str, Any] = {
            name: {
                **cells([_scored(model, test.asked(), run)]),
                **_ended(course, model),
                "validation retained": _scored(model, validation, run).retained,
                "relearned": _relearned(course, model),
            }
            for name, model in (("base", course.base), ("oracle", course.oracle))
        }
        found["pictures"] = [len(rows) for rows in test.groups]
        found["retained pictures"] = len(test.retained)
        return found


@dataclass(frozen=True)
class First:
    """The factor that the first request alone calls for: the smallest at which its validation rows
    look to the model as they look to the oracle."""

    course: Course
    kind: str
    group: str

    @property
    def title(self) -> str:
        """The course, the kind and the request."""
        return f"{self.course.name}: strength of {self.kind} for {self.group} alone"

    def depends_on(self) -> Mapping[str, object]:
        """The course and the vector."""
        own = {"kind": described(KINDS[self.kind]), "group": self.group}
        return {**self.course.facts(), **own}

    def done(self) -> Result:
        """``factor``, and whether the oracle's level was ``reached`` up to it."""
        course, run = self.course, Run(self.course.seed)
        validation, _ = world.panels(course.groups)
        panel = validation.alone(course.groups.index(self.group))
        level = float(_scored(course.oracle, panel, run).confidence[0]) + TOLERANCE
        base, delta = course.base, course.vector(self.kind, self.group).delta()

        def forgotten(factor: float) -> bool:
            model = delta.applied_to(base, factor)
            return float(_scored(model, panel, run).confidence[0]) <= level

        return factor_at(forgotten, delta, base, smallest=True)


@dataclass(frozen=True)
class Matching:
    """The largest common factor at which, after the last step, the retained accuracy on validation
    is within :data:`POINTS` of the base's."""

    course: Course
    kind: str
    rule: str
    order: Order

    @property
    def title(self) -> str:
        """The course, the kind and the rule."""
        return f"{self.course.name}: strength of {self.rule} on {self.kind}"

    def depends_on(self) -> Mapping[str, object]:
        """The course, the vectors, the rule, and the order of the requests."""
        own = {"kind": described(KINDS[self.kind]), "rule": self.rule, "order": list(self.order)}
        return {**self.course.facts(), **own}

    def done(self) -> Result:
        """``factor``, and whether the floor was ``reached`` up to it."""
        return _matched(self.course, self.change())

    def change(self) -> Delta:
        """What the rule makes of all vectors, at factor 1."""
        deltas = [self.course.vector(self.kind, group).delta() for group in self.order]
        return combined(self.rule, deltas)


def needed(course: Course, kind: str, rule: str, order: Order) -> Matching:
    """The matching of a row: one for all orders where the rule does not depend on them."""
    free = registry.load("aggregations", rule).properties.order_independent  # type: ignore[attr-defined]
    return Matching(course, kind, rule, course.groups if free else order)


@dataclass(frozen=True)
class Conflicting:
    """How much the vectors of one kind are at odds."""

    course: Course
    kind: str

    @property
    def title(self) -> str:
        """The course and the kind."""
        return f"{self.course.name}: conflicts of {self.kind}"

    def depends_on(self) -> Mapping[str, object]:
        """The course and the vectors."""
        return {**self.course.facts(), "kind": described(KINDS[self.kind])}

    def done(self) -> Result:
        """Of the coordinates that some vector moves the share that two move ``opposite`` ways, and
        the share that several move at all (``shared``)."""
        return conflicts(
            [self.course.vector(self.kind, group).delta() for group in self.course.groups]
        )


@dataclass(frozen=True)
class Serving:
    """One rule on the vectors of one kind in one order, with both strengths.

    ``first`` and ``matched`` are the factors that were found.
    """

    course: Course
    kind: str
    rule: str
    order: Order
    first: float
    matched: float

    @property
    def title(self) -> str:
        """The course, the rule, the kind, and the first request."""
        return f"{self.course.name} from {self.order[0]}: {self.rule} on {self.kind}"

    def depends_on(self) -> Mapping[str, object]:
        """The course, the vectors, the rule, the order and the factors."""
        own = {"kind": described(KINDS[self.kind]), "rule": self.rule, "order": list(self.order)}
        return {**self.course.facts_of_unseen(), **own, "factors": [self.first, self.matched]}

    def done(self) -> Result:
        """By strength what is answered after each step, for the matched one without the end, which
        is that of :class:`Ending`; the cost of folding, and of the state."""
        course, order = self.course, self.order
        found = followed(self.rule, [course.vector(self.kind, group).delta() for group in order])
        return {
            "first": _to_the_end(course, order, found.changes, self.first),
            "matched": _followed(course, order, found.changes, self.matched),
            "seconds": found.seconds,
            "bytes": found.bytes,
        }


@dataclass(frozen=True)
class Following:
    """A method that goes on from the current model, as it is made and brought to the same retained
    accuracy: the way from the base to each of its models is scaled."""

    course: Course
    method: str
    order: Order

    @property
    def title(self) -> str:
        """The course, the method, and the first request."""
        return f"{self.course.name} from {self.order[0]}: sequential {self.method}"

    def depends_on(self) -> Mapping[str, object]:
        """The course, the method and the order."""
        own = {"method": described(SEQUENTIAL[self.method]), "order": list(self.order)}
        return {**self.course.facts_of_unseen(), **own}

    def done(self) -> Result:
        """As that of :class:`Serving`; no vector is kept, but the current model."""
        course = self.course
        _opened(Training(course.folder, course.seed))
        start = time.process_time()
        changes = self._changes(Run(course.seed))
        seconds, found = time.process_time() - start, _matched(course, changes[-1])
        kept = [p for p in course.base.parameters() if p.requires_grad]
        last = changes[-1].applied_to(course.base, found["factor"])
        return {
            "first": _to_the_end(course, self.order, changes, 1.0),
            "matched": {
                **_to_the_end(course, self.order, changes, found["factor"]),
                "relearned": _relearned(course, last),
            },
            "reached": found["reached"],
            "seconds": seconds,
            "bytes": size_of(kept),
        }

    def _changes(self, run: Run) -> list[Delta]:
        """The way from the base to the model after each step."""
        course, table = self.course, world.work().table
        asked = world.requests(self.order)
        rows = torch.cat([world.reserve(course.askable), *(r.target.rows(table) for r in asked)])
        base, method = course.base, SEQUENTIAL[self.method]
        deployment = world.deployment(base, rows.sort().values)
        changes = []
        for request in asked:
            deployment.forget(request, method, run)
            changes.append(Delta.between(deployment.model, base))
        return changes


@dataclass(frozen=True)
class Ending:
    """What a rule comes to after the last request, once for all orders that end there: at the
    matched factor, or at one that was found elsewhere, so that nothing of this base chose it."""

    matching: Matching
    factor: float

    @property
    def title(self) -> str:
        """Those of the matching."""
        m = self.matching
        return f"{m.course.name}: {m.rule} on {m.kind} at {self.factor:.3g}"

    def depends_on(self) -> Mapping[str, object]:
        """The matching, the unseen sets and the factor."""
        m = self.matching
        return {**m.course.facts_of_unseen(), **m.depends_on(), "factor": self.factor}

    def done(self) -> Result:
        """What is ``left`` of each request in the order of the matching; and ``after`` the last
        one what the model answers otherwise, and how fast it learns what was asked for."""
        m, change = self.matching, self.matching.change()
        model = change.applied_to(m.course.base, self.factor)
        return {
            "left": _followed(m.course, m.order, [change], self.factor)["requests"][0],
            "after": {**_ended(m.course, model), "relearned": _relearned(m.course, model)},
        }


@dataclass(frozen=True)
class Sweeping:
    """Forgotten against retained accuracy over lengths around the matched one, at the end."""

    matching: Matching
    factor: float

    @property
    def title(self) -> str:
        """Those of the matching."""
        m = self.matching
        return f"{m.course.name}: {m.rule} on {m.kind} over strengths"

    def depends_on(self) -> Mapping[str, object]:
        """The matching and its factor."""
        own = {"factor": self.factor, "shares": list(SHARES)}
        return {**self.matching.depends_on(), **own}

    def done(self) -> Result:
        """By length the mean forgotten and the retained accuracy of the test vendor."""
        m, run = self.matching, Run(self.matching.course.seed)
        change = m.change()
        _, test = world.panels(m.course.groups)
        points = []
        for share in SHARES:
            model = change.applied_to(m.course.base, share * self.factor)
            found = _scored(model, test, run)
            points.append({"share": share, "test": [float(found.requests.mean()), found.retained]})
        return {"points": points}


def _matched(course: Course, change: Delta) -> dict[str, Any]:
    run, (validation, _) = Run(course.seed), world.panels(course.groups)
    base, floor = course.base, course.floor()
    return matched_factor(change, base, floor, lambda m: _scored(m, validation, run).retained)


@functools.lru_cache(maxsize=4)
def _opened(base: Training) -> None:
    """Read everything that the first job of a process would else be charged for."""
    _scored(base.model(), world.panels(demo.GROUPS)[0], Run())


def _scored(model: nn.Module, panel: Panel, run: Run) -> Measured:
    return measure(world.work().recipe.family, model, panel, run)


def _followed(
    course: Course, order: Order, changes: Sequence[Delta], factor: float
) -> dict[str, Any]:
    """What the models after each step answer of the requests, and of nothing else."""
    asked, run = world.panels(order)[1].asked(), Run(course.seed)
    models = (change.applied_to(course.base, factor) for change in changes)
    return {"factor": factor, **cells([_scored(model, asked, run) for model in models])}


def _to_the_end(
    course: Course, order: Order, changes: Sequence[Delta], factor: float
) -> dict[str, Any]:
    """The same, and all that the last of these models answers."""
    last = changes[-1].applied_to(course.base, factor)
    return {**_followed(course, order, changes, factor), **_ended(course, last)}


def _ended(course: Course, model: nn.Module) -> dict[str, Any]:
    """What a model answers of the whole test vendor and of unseen sets."""
    run, (_, test) = Run(course.seed), world.panels(course.groups)
    answered = unseen.answered(model, course.groups, run)
    return {**of_end(_scored(model, test, run)), "unseen": answered}


def _relearned(course: Course, model: nn.Module) -> list[float]:
    """Accuracy on the test pictures of all requests after 0, 1, 2 ... steps on one style of their
    training pictures."""
    _, test = world.panels(course.groups)
    shown, asked = world.shown(course.groups, demo.RELEARNING_STYLE), test.asked().samples
    return list(ATTACK.curve(model, world.work().recipe.family, shown, asked, Run(course.seed)))
