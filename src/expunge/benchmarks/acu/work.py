"""The jobs: the ridge, a thousand requests, few rows left, a class, and ten requests in a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from expunge.audit.case import source_of
from expunge.benchmarks.acu.places import Place, place
from expunge.benchmarks.jobs import Result
from expunge.changes.history import History
from expunge.data.samples import Samples, TensorSamples, all_but
from expunge.learning.supervised.last_layer import with_head
from expunge.learning.supervised.ridge import (
    Chunk,
    Recursion,
    Resolve,
    Sign,
    Solved,
    Solver,
    Sums,
)
from expunge.learning.supervised.ridge_head import RidgeHead, kept_by
from expunge.methods.acu import ACU
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.protocol import Method, unlearn
from expunge.problem import Problem
from expunge.recipe import Role, Trained
from expunge.requests import NO_REQUEST
from expunge.run import Run
from expunge.signals.ask import predict
from expunge.signals.membership import cross_validated_mia
from expunge.signals.membership_features import loss

RIDGES = (1e-3, 1e-1, 10.0, 1e3, 1e4, 1e5, 1e6)
"""Of which the best on validation rows is taken. The first is the card's."""

REQUESTS, MOST, CLASS_EVERY = 1000, 10, 100
"""Requests of a stream; rows of one at most; every how many one is for a whole class."""

LOOKS = (1, 10, 100, 500)
"""Requests after which a stream is compared with retraining, beside the last."""

THERE = 0.8
"""Share of the training rows that are there at first."""

OPEN = Recursion(least=0.0, drift=float("inf"), every=10**9, worst=1e300)
"""The recursion without its guards."""

FEW_FROM, FEW_TO, FEW_EACH = 1.25, 0.25, 80
"""Where few rows are left: rows before and after, as shares of the features, and rows a request."""

COURSE, COURSE_SHARE, SHOWN = 10, 0.01, (1, 5, 10)
"""Requests in a row, the share of the rows that each names, and after which it is measured."""

RATES = (1e-4, 1e-3, 1e-2)
"""Learning rates of a baseline, of which the one with the smallest gap on validation rows is taken:
the distance to the oracle in accuracy on forget and on validation rows, together."""

EXACT: Mapping[str, Solver] = {"acu, resolve": Resolve(), "acu, recursion": Recursion()}
BASELINES: Mapping[str, type[GradientAscent] | type[FineTune]] = {
    "gradient ascent": GradientAscent,
    "fine-tuning": FineTune,
}
PASSES = 4
"""Of a baseline, over the rows that it reads."""

Kind = Literal["class", "rows"]
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Choosing:
    """Which ridge a head on these features wants."""

    place: str
    digest: str

    @property
    def title(self) -> str:
        """What is told of it."""
        return f"{self.place}: ridge"

    def depends_on(self) -> Mapping[str, object]:
        """Rows, and what is tried."""
        return {"digest": self.digest, "ridges": RIDGES, "source": sources()}

    def done(self) -> Result:
        """The accuracy on validation rows at each."""
        here = place(self.place)
        sums = _sums(here.read)
        found = {}
        for ridge in RIDGES:
            model = with_head(here.model, Resolve(1e300).anew(sums, ridge).head)
            found[ridge] = _accuracy(here, model, here.validation)
        return {
            "accuracy": [found[ridge] for ridge in RIDGES],
            "ridge": max(RIDGES, key=lambda ridge: (found[ridge], ridge)),
        }


@dataclass(frozen=True)
class Streaming:
    """A thousand requests: rows and classes that go, and that come."""

    place: str
    digest: str
    ridge: float
    seed: int

    @property
    def title(self) -> str:
        """What is told of it."""
        return f"{self.place}: {REQUESTS:,} requests, ridge {self.ridge:g}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """Rows, ridge, and the requests."""
        settings = (REQUESTS, MOST, CLASS_EVERY, THERE, LOOKS)
        return {
            "digest": self.digest,
            "ridge": self.ridge,
            "seed": self.seed,
            "of": settings,
            "source": sources(),
        }

    def done(self) -> Result:
        """How far each form is from the retrained head, after how many requests."""
        here, generator = place(self.place), Run(self.seed).generator("acu: requests")
        rows, labels = here.read, here.train.columns["label"]
        there = torch.rand(len(labels), generator=generator) < THERE
        learner = RidgeHead(self.ridge, Recursion())
        trained = learner.fit(here.model, here.family, {Role.TRAIN: _at(here.train, there)}, Run())
        kept = kept_by(trained.record)
        single = _single(learner, rows, there)
        after, why, kinds = [], [], []
        gone: list[int] = []
        for number in range(1, REQUESTS + 1):
            asked, sign, kind = _asked(number, labels, there, gone, generator)
            kinds.append(kind)
            there[asked] = sign == 1
            kept = learner.moved(
                kept, trained.model, here.family, here.train.select(asked), Run(), sign
            )
            why.append(kept.solved.why)
            chunk = Chunk(rows.features[asked].float(), rows.targets[asked].float())
            single = OPEN.moved(single, self.ridge, [chunk], sign)
            if number in LOOKS or number == REQUESTS:
                oracle = _solved(rows, there, self.ridge)
                again = Resolve(1e300).anew(kept.solved.sums, self.ridge)
                after.append(
                    {
                        "requests": number,
                        "recursion": apart(kept.solved.head, oracle.head),
                        "estimated": kept.solved.drift,
                        "resolve": apart(again.head, oracle.head),
                        "in every bit": torch.equal(again.head, oracle.head),
                        "sums": torch.equal(kept.solved.sums.gram, oracle.sums.gram),
                        "single": apart(single.head.double(), oracle.head),
                    }
                )
        whole = oracle.sums.regularised(self.ridge)
        values = torch.linalg.eigvalsh(whole)
        other = torch.linalg.solve(whole, oracle.sums.cross)
        served, model = (with_head(here.model, h) for h in (kept.solved.head, oracle.head))
        return {
            "after": after,
            "kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            "guards": {name: why.count(name) for name in sorted(set(why) - {""})},
            "condition": float(values[-1] / values[0]),
            "by another solver": apart(other, oracle.head),
            "rows": int(there.sum()),
            "same answers": float(
                (_answers(here, served, here.test) == _answers(here, model, here.test))
                .double()
                .mean()
            ),
            "test accuracy": _accuracy(here, served, here.test),
        }


@dataclass(frozen=True)
class Emptying:
    """Rows go until far fewer are left than there are features."""

    place: str
    digest: str
    seed: int

    @property
    def title(self) -> str:
        """What is told of it."""
        return f"{self.place}: few rows left, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """Rows and settings."""
        return {
            "digest": self.digest,
            "seed": self.seed,
            "of": (FEW_FROM, FEW_TO, FEW_EACH),
            "source": sources(),
        }

    def done(self) -> Result:
        """The distance to the retrained head of each form, and which guards fired."""
        here, generator = place(self.place), Run(self.seed).generator("acu: few rows")
        width = here.read.features.shape[1]
        order = torch.randperm(len(here.train), generator=generator)
        first, last = int(FEW_FROM * width), int(FEW_TO * width)
        there, left = order[:first], order[first - last : first]
        found = []
        for name, dtype, ridge, drift in (
            ("float64", torch.float64, 1e-3, 1e-10),
            ("float32", torch.float32, 1e-1, 1e-4),
        ):
            oracle = _solved(here.read, left, ridge)
            forms: dict[str, Solver] = {
                "recursion without guards": OPEN,
                "recursion": Recursion(drift=drift),
                "resolve": Resolve(),
            }
            for form, solver in forms.items():
                solved = solver.anew(_sums(_typed(here.read, there, dtype)), ridge)
                why: list[str] = []
                for start in range(0, first - last, FEW_EACH):
                    rows = there[start : min(start + FEW_EACH, first - last)]
                    chunk = _typed(here.read, rows, dtype)
                    if isinstance(solver, Resolve):  # what lies between is not carried on
                        solved = replace(solved, sums=solved.sums.moved(chunk, -1))
                    else:
                        solved = solver.moved(solved, ridge, [chunk], -1)
                        why.append(solved.why)
                if isinstance(solver, Resolve):
                    solved = solver.anew(solved.sums, ridge)
                found.append(
                    {
                        "precision": name,
                        "ridge": ridge,
                        "form": form,
                        "apart": apart(solved.head.double(), oracle.head),
                        "guards": {w: why.count(w) for w in sorted(set(why) - {""})},
                        "requests": len(why),
                    }
                )
        return {"rows": [first, last], "forms": found}


@dataclass(frozen=True)
class Beside:
    """ACU and the baselines, on a class or on a course of requests for random rows."""

    place: str
    digest: str
    ridge: float
    kind: Kind
    seed: int

    @property
    def title(self) -> str:
        """What is told of it."""
        what = "a class" if self.kind == "class" else f"{COURSE} requests in a row"
        return f"{self.place}: {what} beside baselines, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """Rows, ridge, requests, what is tried, and the code of the methods."""
        settings = (COURSE, COURSE_SHARE, SHOWN, RATES, PASSES)
        return {
            "digest": self.digest,
            "ridge": self.ridge,
            "kind": self.kind,
            "seed": self.seed,
            "source": sources(),
            "of": settings,
        }

    def done(self) -> Result:
        """Figures of every method after the requests that are shown."""
        here = place(self.place)
        requests = self._requests(here)
        found: dict[str, Any] = {"rows": len(requests[0]), "rates": {}, "after": {}}
        learner = RidgeHead(self.ridge)
        first = _fitted(learner, here, torch.arange(len(here.train)))
        course = _Course(here, learner, first, requests)
        shown = [number for number in SHOWN if number <= len(requests)]
        oracles = course.oracles(shown)
        found["after"]["original"] = [
            course.figures(first.model, number, oracles[number]) for number in shown
        ]
        found["after"]["oracle"] = [
            course.figures(oracles[number].model, number, oracles[number]) for number in shown
        ]
        for name, solver in EXACT.items():
            start = _fitted(RidgeHead(self.ridge, solver), here, torch.arange(len(here.train)))
            found["after"][name] = course.followed(ACU(), start, shown, oracles)
        for name, kind in BASELINES.items():
            tried = [
                course.gap(kind(PASSES, rate, sequential=True), oracles[shown[0]]) for rate in RATES
            ]
            rate = RATES[tried.index(min(tried))]
            found["rates"][name] = {"rate": rate, "gaps": tried}
            method = kind(PASSES, rate, sequential=True)
            found["after"][name] = course.followed(method, first, shown, oracles)
        return {**found, "shown": shown}

    def _requests(self, here: Place) -> list[Tensor]:
        generator = Run(self.seed).generator(f"acu: {self.kind}")
        labels = here.train.columns["label"]
        if self.kind == "class":
            own = int(torch.randint(here.classes, (), generator=generator))
            return [(labels == own).nonzero()[:, 0]]
        order = torch.randperm(len(labels), generator=generator)
        each = max(1, round(COURSE_SHARE * len(labels)))
        return list(torch.split(order[: COURSE * each], each))


@dataclass(frozen=True, eq=False)
class _Course:
    """Requests in a row on one head, and what is measured after them."""

    here: Place
    learner: RidgeHead
    first: Trained
    requests: Sequence[Tensor]

    def gone(self, number: int) -> Tensor:
        """Rows of the first requests."""
        return torch.cat(list(self.requests[:number]))

    def oracles(self, shown: Sequence[int]) -> dict[int, Trained]:
        """The retrained heads after these requests."""
        count = len(self.here.train)
        return {
            number: _fitted(self.learner, self.here, all_but(count, self.gone(number)))
            for number in shown
        }

    def followed(
        self, method: Method, start: Trained, shown: Sequence[int], oracles: Mapping[int, Trained]
    ) -> list[Figures]:
        """What a method leaves after the requests that are shown."""
        found, now = [], start
        for number in range(1, len(self.requests) + 1):
            now = self.after(method, now, number)
            if number in shown:
                found.append(self.figures(now.model, number, oracles[number]))
        return found

    def after(self, method: Method, now: Trained, number: int) -> Trained:
        """The model after a method answered a request, and its record."""
        rows, here = self.requests[number - 1], self.here
        data: dict[Role, Samples] = {
            Role.FORGET: here.train.select(rows),
            Role.RETAIN: here.train.select(all_but(len(here.train), self.gone(number))),
        }
        problem = Problem(now.model, here.family, NO_REQUEST, data, History(), record=now.record)
        outcome = unlearn(method, problem, Run())
        return Trained(outcome.applied_to(now.model), outcome.record)

    def gap(self, method: Method, oracle: Trained) -> float:
        """Distance to the oracle after the first request, on forget and validation rows."""
        after, here = self.after(method, self.first, 1), self.here
        forget = here.train.select(self.requests[0])
        return sum(
            abs(_accuracy(here, after.model, rows) - _accuracy(here, oracle.model, rows))
            for rows in (forget, self._kept(here.validation))
        )

    def figures(self, model: nn.Module, number: int, oracle: Trained) -> Figures:
        """Accuracies, the attack, and the distance of the weights to the oracle's."""
        here, gone = self.here, self.gone(number)
        forget, test = here.train.select(gone), self._kept(here.test)
        unseen = self._unseen()
        seen, other = (predict(here.family, model, r, Run()) for r in (forget, unseen))
        return {
            "forgotten": _accuracy(here, model, forget),
            "retained": _accuracy(here, model, here.train.select(all_but(len(here.train), gone))),
            "test": _accuracy(here, model, test),
            "attack": float(cross_validated_mia(seen, other, loss)[0]),
            "distance": apart(_weights(model).double(), _weights(oracle.model).double()),
        }

    def _own(self) -> int | None:
        """The class that the only request takes away."""
        labels = self.here.train.columns["label"]
        own = labels[self.requests[0]]
        whole = len(self.requests) == 1 and int((labels == own[0]).sum()) == len(own)
        return int(own[0]) if whole else None

    def _kept(self, rows: TensorSamples) -> TensorSamples:
        """Rows of the classes that stay."""
        own = self._own()
        return rows if own is None else _at(rows, rows.columns["label"] != own)

    def _unseen(self) -> TensorSamples:
        """Test rows of the class that goes, or all."""
        own, test = self._own(), self.here.test
        return test if own is None else _at(test, test.columns["label"] == own)


def sources() -> str:
    """Digests of the code that results depend on: the methods, and the rooms below them."""
    return "".join(source_of(kind) for kind in (ACU, *BASELINES.values()))


def apart(found: Tensor, wanted: Tensor) -> float:
    """Distance of two heads, as a share of the norm of the second."""
    return float((found - wanted).norm() / wanted.norm())


def _asked(
    number: int, labels: Tensor, there: Tensor, gone: list[int], generator: torch.Generator
) -> tuple[Tensor, Sign, str]:
    """The rows of a request, whether they come or go, and what it is for."""
    if number % CLASS_EVERY == CLASS_EVERY // 2:
        if gone:
            own = gone.pop()
            return ((labels == own) & ~there).nonzero()[:, 0], 1, "a class comes back"
        held = torch.unique(labels[there])
        own = int(held[torch.randint(len(held), (), generator=generator)])
        gone.append(own)
        return ((labels == own) & there).nonzero()[:, 0], -1, "a class goes"
    comes = bool(torch.rand((), generator=generator) < 0.5)
    count = int(torch.randint(1, MOST + 1, (), generator=generator))
    free = ~there
    for own in gone:  # a class that is to be gone stays so until it comes back
        free = free & (labels != own)
    pool = (free if comes else there).nonzero()[:, 0]
    drawn = pool[torch.randperm(len(pool), generator=generator)[:count]]
    return drawn, 1 if comes else -1, "rows come" if comes else "rows go"


def _sums(rows: Chunk) -> Sums:
    nothing = Sums.none(rows.features.shape[1], rows.targets.shape[1], rows.features.dtype)
    return nothing.moved(rows, 1)


def _typed(rows: Chunk, where: Tensor, dtype: torch.dtype = torch.float64) -> Chunk:
    return Chunk(rows.features[where].to(dtype), rows.targets[where].to(dtype))


def _solved(rows: Chunk, where: Tensor, ridge: float) -> Solved:
    """The retrained head: all rows that are there, at once."""
    return Resolve(1e300).anew(_sums(_typed(rows, where)), ridge)


def _single(learner: RidgeHead, rows: Chunk, there: Tensor) -> Solved:
    """The start of the recursion in float32, without guards."""
    return OPEN.anew(_sums(_typed(rows, there, torch.float32)), learner.ridge)


def _at(rows: TensorSamples, there: Tensor) -> TensorSamples:
    return rows.select(there.nonzero()[:, 0])


def _fitted(learner: RidgeHead, here: Place, rows: Tensor) -> Trained:
    return learner.fit(here.model, here.family, {Role.TRAIN: here.train.select(rows)}, Run())


def _weights(model: nn.Module) -> Tensor:
    """Of the last layer, the only parameters there are."""
    return next(model.parameters()).detach()


def _answers(here: Place, model: nn.Module, rows: TensorSamples) -> Tensor:
    with torch.no_grad():
        images = torch.split(rows.columns["image"], 1024)
        return torch.cat([model(each).argmax(1) for each in images])


def _accuracy(here: Place, model: nn.Module, rows: TensorSamples) -> float:
    hits = _answers(here, model, rows) == rows.columns["label"]
    return float(hits.double().mean())
