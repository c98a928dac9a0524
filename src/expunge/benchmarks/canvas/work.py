"""The pieces of the benchmark: training, forgetting, drawing the answers, and what judges say.

Strengths are chosen on answers from other noise than those that are reported.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from expunge.aggregation.compose import compose
from expunge.aggregation.sum import Sum
from expunge.audit.case import described, digest_of_rooms
from expunge.audit.kept_models import KeptModels
from expunge.benchmarks.canvas.worlds import DOMAINS, Domain, Target, World, world
from expunge.benchmarks.jobs import Result, key_of
from expunge.changes import stored
from expunge.changes.delta import Delta
from expunge.changes.guarded import unguarded
from expunge.changes.history import History, Served
from expunge.changes.safe_guidance import SafeGuidance
from expunge.changes.weights import digest_of
from expunge.data.canvas import HELD_OUT, TEMPLATE
from expunge.descent.averages import MovingAverage
from expunge.descent.conditions import AnchorOrNext
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError
from expunge.learning.supervised.averaged import Averaged
from expunge.methods.concept_ablation import ConceptAblation
from expunge.methods.erase_diff import EraseDiff
from expunge.methods.esd import ESDU, ESDX
from expunge.methods.protocol import Method, Outcome, unlearn
from expunge.methods.safe_latent import SafeLatent
from expunge.methods.salun_diffusion import SalUnDiffusion
from expunge.methods.uce import UCE, AllTokens
from expunge.models.modes import evaluating
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.run import Run, peak_memory
from expunge.signals.frechet import frechet_distance
from expunge.signals.grid import Grid, grid_accuracies

JUDGE_SEED = 7
"""Of the two judges; bases have others."""

TRUSTED = 0.05
"""Share of real validation rows of which the judges are less sure than of garbage."""

RELEARNED, SHOWN, RATE = 30, 16, 1e-3
"""Steps of relearning, rows of the target that are shown, and the rate."""

STEPS, RATES = 60, (3e-4, 1e-3)
"""Of every descent, and the rates that are tried for it."""


def _rates(method: Any) -> tuple[Method, ...]:
    return tuple(replace(method, learning_rate=rate) for rate in RATES)


FORMS: Mapping[str, tuple[Method, ...]] = {
    "esd-x": _rates(ESDX(steps=STEPS, batch_size=4, sampler_steps=15, guidance=2.0)),
    "esd-u": _rates(ESDU(steps=STEPS, batch_size=4, sampler_steps=15, guidance=2.0)),
    "uce": (UCE(), UCE(erase=10.0, keep=0.1)),
    "uce, all tokens": (UCE(aligned=AllTokens()), UCE(10.0, 1.0, 0.1, AllTokens())),
    "concept-ablation": _rates(
        ConceptAblation(
            steps=STEPS, batch_size=8, pictures=64, sampler_steps=15, guidance=2.0, eta=1.0
        )
    ),
    "sld, weak": (SafeLatent.weak(),),
    "sld, medium": (SafeLatent.medium(),),
    "sld, strong": (SafeLatent.strong(),),
    "sld, max": (SafeLatent.maximum(),),
    "salun-diffusion": _rates(SalUnDiffusion(steps=STEPS, batch_size=16, retain_weight=1.0)),
    "erase-diff": _rates(EraseDiff(steps=STEPS, batch_size=16, instead=AnchorOrNext())),
}
"""What is compared, and the strengths that are tried of each; SLD has the paper's four. The warm-up
of SLD is in steps of the sampler: weak acts in the last ten of 25."""


@dataclass(frozen=True)
class Place:
    """Where a job stands: the world with its digest, the benchmark's folder."""

    world: str
    digest: str
    folder: Path = field(compare=False)

    @property
    def room(self) -> World:
        """The world itself."""
        return world(self.world)

    def facts(self) -> dict[str, object]:
        """What a training depends on: the world, and the code that trains."""
        rooms = ("descent", "learning", "families", "models")
        return {"world": self.world, "digest": self.digest, "code": digest_of_rooms(rooms)}

    def looked(self) -> dict[str, object]:
        """What every other job depends on beside: the code that forgets and looks."""
        rooms = ("methods", "changes", "signals", "aggregation", "benchmarks/canvas")
        return {**self.facts(), "looking": digest_of_rooms(rooms)}

    def kept(self, key: str, architecture: nn.Module, make: Any) -> nn.Module:
        """The model of a key, made where it is not there."""
        return KeptModels(self.folder / "models").get(key, architecture, make)[0].eval()


@dataclass(frozen=True)
class Training:
    """Train a judge, the base, or an oracle that never saw a picture or a prompt of a target.

    Args:
        place: where it stands.
        which: ``base``, or the domain of a judge.
        seed: of weights and order.
        without: the target that an oracle does not see.
    """

    place: Place
    which: str
    seed: int
    without: Target | None = None

    @property
    def title(self) -> str:
        """What is trained."""
        gone = f" without {self.without.word}" if self.without else ""
        return f"{self.which}{gone}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """World, model, seed."""
        gone = None if self.without is None else [self.without.domain, self.without.word]
        return {**self.place.facts(), "which": self.which, "seed": self.seed, "without": gone}

    def done(self) -> Result:
        """Train and keep it."""
        start = time.process_time()
        self.model()
        return {"seconds": time.process_time() - start}

    def model(self) -> nn.Module:
        """The kept model; trained where its file is not there."""
        return self.place.kept(key_of(self), self._recipe.builder(self.seed), self._made)

    @property
    def _recipe(self) -> Recipe:
        room = self.place.room
        recipe = room.recipe if self.which == "base" else room.judge(_domain(self.which))
        return recipe.with_seed(self.seed)

    def _made(self) -> nn.Module:
        room = self.place.room
        if self.which == "base":
            rows = room.rows("train", self.without)
        else:
            rows = room.lessons(_domain(self.which))
        folder = self.place.folder / "unfinished" / key_of(self)
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(self.seed, checkpoints=folder)
        return self._recipe.make({Role.TRAIN: rows}, run).model


def _domain(name: str) -> Domain:
    return "object" if name == "object" else "style"


@dataclass(frozen=True)
class Forgetting:
    """Let a method answer a request, on the base of a seed."""

    place: Place
    form: str
    strength: int
    target: Target
    seed: int

    @property
    def title(self) -> str:
        """Form, strength, target."""
        return f"{self.form} ({self.strength}): {self.target.word}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """Form, strength, target, seed."""
        return {
            **self.place.looked(),
            "method": described(self.method),
            "target": [self.target.domain, self.target.word, self.target.anchor],
            "seed": self.seed,
        }

    @property
    def method(self) -> Method:
        """The method with its fields."""
        return FORMS[self.form][self.strength]

    def done(self) -> Result:
        """Its cost, and what judges say of answers that are not reported."""
        start = time.process_time()
        outcome = self._outcome()
        seconds = time.process_time() - start
        [change] = outcome.changes
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stored.save(change, self.path)
        look = Look(self.place, self.seed)
        grid = look.grid(look.answers(self.model(), 2, "strength"), self.target)
        return {
            "seconds": seconds,
            "gigabytes": peak_memory() / 1e9,
            "stored megabytes": self.path.stat().st_size / 1e6,
            **vars(grid),
        }

    @property
    def path(self) -> Path:
        """Where its change is kept."""
        return self.place.folder / "changes" / f"{key_of(self)}.safetensors"

    def change(self) -> Any:
        """Its change, made again where it is not there."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            stored.save(self._outcome().changes[0], self.path)
        guards = isinstance(self.method, SafeLatent)
        return stored.load(SafeGuidance.kind if guards else Delta.kind, self.path)

    def model(self) -> nn.Module:
        """The model that it leaves."""
        base = Training(self.place, "base", self.seed).model()
        return Outcome((self.change(),)).applied_to(base)

    def _outcome(self) -> Outcome:
        room = self.place.room
        rows = room.rows("train")
        goes = room.of(rows, self.target)
        data = {
            Role.PROMPTS: room.prompts(),
            Role.FORGET: rows.select(goes.nonzero()[:, 0]),
            Role.RETAIN: rows.select((~goes).nonzero()[:, 0]),
        }
        base = Training(self.place, "base", self.seed).model()
        request = self.target.request
        problem = Problem(base, room.family, request, data, History())
        return unlearn(self.method, problem, Run(self.seed))


@dataclass(frozen=True)
class Answers:
    """Pictures for every cell, and what the judges say of them.

    Args:
        images: (n, 3, side, side), all cells, then all again.
        judged: the word (n,) of each domain.
        surest: the lesser of the two judges' largest probabilities (n,).
        entropy: of the judge of each domain (n,), in nats.
        features: (n, d) of the judge of objects.
    """

    images: Tensor
    judged: Mapping[str, Tensor]
    surest: Tensor
    entropy: Mapping[str, Tensor]
    features: Tensor


@dataclass(frozen=True)
class Look:
    """What models of a seed draw, as the judges see it."""

    place: Place
    seed: int

    def told(self, count: int) -> dict[str, Tensor]:
        """The words (n,) of both domains in the order of :meth:`answers`."""
        objects = len(self.place.room.canvas.objects)
        cells = torch.arange(len(self.place.room.canvas.cells)).repeat(count)
        return {"object": cells % objects, "style": cells // objects}

    def drawn(self, model: nn.Module, count: int, bank: str, template: str = TEMPLATE) -> Tensor:
        """Pictures of every cell, ``count`` times, from the same noise for every model."""
        room = self.place.room
        told = room.family.conditions(room.canvas.prompts(template)).repeat(count, 1)
        return room.sampler.drawn(room.family, model, told, Run(self.seed), bank)

    def answers(self, model: nn.Module, count: int, bank: str, template: str = TEMPLATE) -> Answers:
        """The answer set of a model."""
        return self.judged(self.drawn(model, count, bank, template))

    def judged(self, images: Tensor) -> Answers:
        """What the judges say of pictures."""
        probabilities: dict[str, Tensor] = {}
        features = images[:, :0, 0, 0]
        for domain in DOMAINS:
            judge = Training(self.place, domain, JUDGE_SEED).model()
            with evaluating(judge) as asked, torch.inference_mode():
                seen: Tensor = asked.get_submodule("features")(images)
                logits: Tensor = asked.get_submodule("classifier")(seen)
            probabilities[domain] = logits.softmax(1)
            features = seen.clone() if domain == "object" else features
        surest = torch.stack([p.amax(1) for p in probabilities.values()]).amin(0)
        entropy = {d: torch.special.entr(p).sum(1) for d, p in probabilities.items()}
        answer = {d: p.argmax(1) for d, p in probabilities.items()}
        return Answers(images, answer, surest, entropy, features)

    def grid(self, answers: Answers, target: Target) -> Grid:
        """The three accuracies of a target."""
        told = self.told(len(answers.images) // len(self.place.room.canvas.cells))
        mine, other = target.domain, "style" if target.domain == "object" else "object"
        place = self.place.room.words(target.domain).index(target.word)
        judged = answers.judged
        return grid_accuracies(told[mine], judged[mine], told[other], judged[other], place)

    def real(self, count: int, split: str) -> Answers:
        """Real rows of a split in the order of an answer set, ``count`` of each cell.

        Raises:
            ExpungeError: the split has fewer.
        """
        rows = self.place.room.rows(split)
        cells, own = self.place.room.canvas.cells, rows.columns["cell"]
        each = [(own == cell).nonzero()[:, 0] for cell in range(len(cells))]
        if min(map(len, each)) < count:
            raise ExpungeError(
                f"{count} real pictures of every cell were asked for, and the {split} rows have "
                f"{min(map(len, each))}; ask for fewer, or make a canvas of more copies."
            )
        order = torch.stack([found[:count] for found in each], 1).flatten()
        return self.judged(rows.columns["image"][order])

    def figures(self, answers: Answers, target: Target) -> dict[str, float]:
        """What is reported of an answer set."""
        count = len(answers.images) // len(self.place.room.canvas.cells)
        told = self.told(count)
        gone = told[target.domain] == self.place.room.words(target.domain).index(target.word)
        unsure = float(self.real(4, "validation").surest.quantile(TRUSTED))
        reference = self.real(count, "train").features
        return {
            **vars(self.grid(answers, target)),
            "garbage": share(answers.surest[gone] < unsure),
            "garbage retained": share(answers.surest[~gone] < unsure),
            "entropy": float(answers.entropy[target.domain][gone].mean()),
            "distance": frechet_distance(reference[~gone], answers.features[~gone]),
        }


@dataclass(frozen=True)
class Judging:
    """What the judges say of real rows, and of the same in other colours."""

    place: Place
    count: int

    @property
    def title(self) -> str:
        """Always the same."""
        return "the judges on real rows"

    def depends_on(self) -> Mapping[str, object]:
        """The world."""
        return {**self.place.looked(), "count": self.count, "judge": JUDGE_SEED}

    def done(self) -> Result:
        """Accuracies, and the distance of two real halves."""
        room, look = self.place.room, Look(self.place, 0)
        found: dict[str, Any] = {}
        for name, rows in (("real", room.rows("test")), ("recoloured", room.recoloured("test"))):
            judged = look.judged(rows.columns["image"]).judged
            found[name] = {d: share(judged[d] == rows.columns[d]) for d in DOMAINS}
        halves = [look.real(self.count, split).features for split in ("train", "test")]
        return found | {"distance": frechet_distance(*halves)}


@dataclass(frozen=True)
class Accepting:
    """What the base draws, word by word."""

    place: Place
    seed: int
    count: int

    @property
    def title(self) -> str:
        """Seed."""
        return f"the base, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """The world and the seed."""
        return {**self.place.looked(), "seed": self.seed, "count": self.count}

    def done(self) -> Result:
        """Accuracy of each word, with every template, and the distance to real pictures."""
        look, base = Look(self.place, self.seed), Training(self.place, "base", self.seed).model()
        told = look.told(self.count)
        answers = look.answers(base, self.count, "report")
        right = {d: answers.judged[d] == told[d] for d in DOMAINS}
        by_word = {
            d: [share(right[d][told[d] == k]) for k in range(len(self.place.room.words(d)))]
            for d in DOMAINS
        }
        held = {}
        for template in HELD_OUT:
            judged = look.answers(base, 1, "held out", template).judged
            held[template] = {d: share(judged[d] == look.told(1)[d]) for d in DOMAINS}
        reference = look.real(self.count, "train").features
        return {
            **{d: share(right[d]) for d in DOMAINS},
            "words": by_word,
            "held out": held,
            "distance": frechet_distance(reference, answers.features),
        }


@dataclass(frozen=True)
class Looking:
    """Report on one model and one target.

    Args:
        place: where it stands.
        what: a training or a forgetting; ``real`` for real test rows, ``destroyed`` for untrained
            weights.
        target: what should have gone.
        seed: of the base.
        count: pictures of every cell.
        relearn: look whether a few steps on a few rows of the target bring it back.
    """

    place: Place
    what: Training | Forgetting | str
    target: Target
    seed: int
    count: int
    relearn: bool = False

    @property
    def title(self) -> str:
        """What is looked at."""
        name = self.what if isinstance(self.what, str) else self.what.title
        return f"looked at {name} for {self.target.word}"

    def depends_on(self) -> Mapping[str, object]:
        """The model, the target, how much is drawn."""
        return {
            **self.place.looked(),
            "what": self.what if isinstance(self.what, str) else key_of(self.what),
            "target": [self.target.domain, self.target.word],
            "seed": self.seed,
            "count": self.count,
            "relearn": self.relearn,
        }

    def done(self) -> Result:
        """Figures."""
        look = Look(self.place, self.seed)
        if self.what == "real":
            return look.figures(look.real(self.count, "test"), self.target)
        model = self.model()
        found = look.figures(look.answers(model, self.count, "report"), self.target)
        if not self.relearn:
            return found
        again = look.answers(self._relearned(model), 2, "relearned")
        return found | {"relearned": look.grid(again, self.target).unlearning}

    def model(self) -> nn.Module:
        """The model that is looked at."""
        if isinstance(self.what, str):
            return self.place.room.recipe.builder(self.seed + 1000).eval()
        return self.what.model()

    def _relearned(self, model: nn.Module) -> nn.Module:
        """A few steps on a few rows of the target, the guard taken off."""
        room = self.place.room
        rows = room.rows("train")
        shown = rows.select(room.of(rows, self.target).nonzero()[:SHOWN, 0])
        learner = Averaged(RELEARNED, SHOWN, AdamW(RATE), MovingAverage(0.0))
        data = {Role.TRAIN: shown}
        return learner.fit(unguarded(model), room.family, data, Run(self.seed)).model.eval()


@dataclass(frozen=True)
class InTurn:
    """Requests one after another by one form, their vectors added to one another.

    Every vector is made from the base; the model after step t is the base and the sum of the first
    t. What it draws of every target is measured after every step: the full matrix.
    """

    place: Place
    form: str
    strength: int
    targets: tuple[Target, ...]
    seed: int
    count: int

    @property
    def title(self) -> str:
        """Form and requests."""
        return f"{self.form}: {', '.join(t.word for t in self.targets)} in turn, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """The vectors in their order."""
        keys = [key_of(one) for one in self._vectors]
        return {**self.place.looked(), "vectors": keys, "seed": self.seed, "count": self.count}

    @property
    def _vectors(self) -> list[Forgetting]:
        return [
            Forgetting(self.place, self.form, self.strength, target, self.seed)
            for target in self.targets
        ]

    def done(self) -> Result:
        """Unlearning accuracy R[t][j] of request j after step t, and what is retained of the rest.

        Raises:
            ExpungeError: the form leaves the weights as they are, so that nothing can be added.
        """
        look, base = Look(self.place, self.seed), Training(self.place, "base", self.seed).model()
        history = History.of(digest_of(base))
        matrix: list[list[float]] = []
        kept: list[float] = []
        for vector in self._vectors:
            served = Served(vector.target.request, (vector.change(),), 1.0, ())
            history = history.with_served(served)
            model = compose(base, history.current, Sum())
            answers = look.answers(model, self.count, "report")
            matrix.append([look.grid(answers, t).unlearning for t in self.targets])
            kept.append(self._kept(look, answers))
        return {"targets": [t.word for t in self.targets], "unlearning": matrix, "kept": kept}

    def _kept(self, look: Look, answers: Answers) -> float:
        """Share judged right in both domains, of the cells that no request names."""
        told = look.told(self.count)
        named = torch.zeros(len(answers.images), dtype=torch.bool)
        for target in self.targets:
            place = self.place.room.words(target.domain).index(target.word)
            named |= told[target.domain] == place
        right = torch.stack([answers.judged[d] == told[d] for d in DOMAINS]).all(0)
        return share(right[~named])


def share(flags: Tensor) -> float:
    """The share that is true."""
    return float(flags.double().mean())
