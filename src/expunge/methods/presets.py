"""Presets: the fields of a method for one problem, where the paper's were found on another model.

A published learning rate belongs to the network, the batches and the number of steps that it was
found with. What carries over is how far a method leads away. You, Gitman, Ginsburg (2017), Large
Batch Training of Convolutional Networks, give each layer a rate in proportion to the ratio of its
weights' norm to its gradient's; here the same ratio, of the whole model, sets the rate of a whole
descent, so that all its steps together could move the weights by a fixed share of their norm (the
"reach"). The gradient is that of the loss on the forget set under neutral targets: a trained model
has next to none under the true ones. Steps of Adam are about as long as the rate in every weight,
whatever the gradient. The shares were chosen on validation rows of five classifiers
(docs/presets.md).

A preset never replaces what a user gave, and the fields of a method keep the paper's values.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.kinds import Change, Replacement
from expunge.data.samples import Batch, Samples, batches
from expunge.descent.length import batches_of
from expunge.descent.streams import reading
from expunge.errors import ExpungeError
from expunge.families.abilities import HasAnswers, HasLogits, HasNeutral, able
from expunge.methods.protocol import (
    Artifact,
    Method,
    Outcome,
    learner_of,
    preparation_of,
    unreadable,
)
from expunge.models.modes import evaluating
from expunge.problem import Access, Missing, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run, on_device
from expunge.signals.ask import predict
from expunge.signals.fisher import classes_of
from expunge.signals.gradients import losses_of, mean_gradient

FEWEST = 16
"""Steps on the forget set below which a rate does not rise any more: few large steps are not many
small ones."""

PASSES = 4
"""Passes over the retain set: about a fifth of a training of twenty."""

PASS, SMALLEST = 32, 16
"""Batches of a pass over the retain set, and rows of a batch, that are aimed at."""

FORGET_PASS, SMALLEST_FORGET = 4, 4
"""The same of a pass over the forget set alone."""

STEPS = ("epochs", "batch_size")
"""Fields that a rate belongs to."""

READ_AT_ONCE = 256
"""Rows whose loss is taken at a time."""

LOOKED_AT = 1024
"""Rows at most of which the neutral gradient is taken, or whose answers are looked at."""

M = TypeVar("M", bound=Method)


@runtime_checkable
class HasPreset(Protocol):
    """A method that knows its fields for a problem.

    Where it also has ``preset_rule: ClassVar[str]``, `expunge methods` prints that line.
    """

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The method with the fields that fit a problem; none that ``prepare`` depends on differs.

        Args:
            problem: as :meth:`~expunge.methods.protocol.Method.unlearn` sees it; of the roles that
                the method opens while preparing only the number of rows can be read.
            run: device and random numbers: the same seed gives the same fields.

        Raises:
            ExpungeError: no fields fit; the reason is said.
        """
        ...


def preset_of(method: Method, problem: Problem, run: Run | None = None) -> Method:
    """A method with the fields of its preset for a problem; one without a preset, as it is.

    Args:
        method: at the paper's values.
        problem: it is opened as :class:`HasPreset` says.
        run: device and random numbers; seed 0 on the CPU by default.

    Raises:
        ExpungeError: the problem lacks what the method needs, or no fields fit it.
    """
    if not isinstance(method, HasPreset):
        return method
    found: Method = method.for_problem(problem.opened(_access(method)), run or Run())
    return found


@dataclass(frozen=True)
class AtPreset:
    """A method that finds its preset anew for every request, and then is that method.

    Its changes hold the fields that were used under the fact ``preset``.

    Args:
        method: where the preset starts from; it has one.
        given: names of fields that stay as they are in ``method``.
    """

    method: Method
    given: tuple[str, ...] = ()

    @classmethod
    def of(cls, method: Method, given: Iterable[str] = ()) -> Method:
        """The method at its preset; one without a preset, as it is.

        Raises:
            ExpungeError: the number of steps is given and no rate: the preset's rate is for its
                own number of them.
        """
        given = tuple(given)
        for name in given:
            if isinstance(inner := getattr(method, name, None), Method):
                raise ExpungeError(
                    f"Fields of {inner.name}, which {method.name} is put around, were given beside "
                    "a preset, which finds all of them; name it alone for its preset, or leave the "
                    "preset out."
                )
        if set(given) & set(STEPS) and not any("learning_rate" in name for name in given):
            raise ExpungeError(
                f"{', '.join(given)} of {method.name} was given beside its preset, which finds the "
                "learning rate for its own number of steps; leave it out, give the rate, too, or "
                "take the paper's values for the others (`preset: false`)."
            )
        return cls(method, given) if isinstance(method, HasPreset) else method

    @property
    def name(self) -> str:
        """That of the method."""
        return self.method.name

    @property
    def paper(self) -> str:
        """That of the method."""
        return self.method.paper

    @property
    def needs(self) -> tuple[type, ...]:
        """Those of the method."""
        return self.method.needs

    @property
    def sequential(self) -> bool:
        """As the method."""
        return self.method.sequential

    @property
    def prepares_with(self) -> Access:
        """What the method opens while preparing."""
        return self.method.prepares_with

    @property
    def unlearns_with(self) -> Access:
        """What the method opens, and the numbers of rows that it prepared with."""
        return _access(self.method)

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """What the method prepares; no field of a preset changes it."""
        return self.method.prepare(problem, run)

    @property
    def preparation(self) -> object:
        """That of the method."""
        return preparation_of(self.method)

    @property
    def of_learner(self) -> str | None:
        """The learner whose record the method reads."""
        return learner_of(self.method)

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """What the rows lack for the method."""
        return unreadable(self.method, problem)

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """Find the fields, and unlearn with them."""
        found: Any = preset_of(self.method, problem, run)
        fitting: Any = replace(found, **{n: getattr(self.method, n) for n in self.given})
        outcome: Outcome = fitting.unlearn(problem.opened(fitting.unlearns_with), artifact, run)
        used = fields_of(fitting)
        changes = tuple(
            replace(change, facts={**change.facts, "preset": used})
            if isinstance(change, Delta | Replacement)
            else change
            for change in outcome.changes
        )
        return replace(outcome, changes=changes)


def settled(method: Method, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Which parameters set a value. A method inside another one that is given by its name alone
    sets none: it finds its preset as it would by itself."""
    return tuple(
        name
        for name, given in parameters.items()
        if not (isinstance(getattr(method, name, None), Method) and _only_named(given))
    )


def inside(method: Method) -> Method | None:
    """The method that another one is put around; None for a method by itself."""
    found = getattr(starting_point(method), "method", None)
    return found if isinstance(found, Method) else None


def _only_named(given: object) -> bool:
    return isinstance(given, str) or (isinstance(given, Mapping) and set(given) == {"name"})


def starting_point(method: Method) -> Method:
    """The method that a preset starts from; any other as it is."""
    return method.method if isinstance(method, AtPreset) else method


def presets_of(outcome: Iterable[Change]) -> dict[str, Any] | None:
    """The fields that a preset found for a request, by the facts of its changes; None without."""
    found = (getattr(change, "facts", {}).get("preset") for change in outcome)
    return next((fields for fields in found if fields is not None), None)


def fields_of(made: object) -> dict[str, Any]:
    """The fields of a dataclass as JSON values, as a run file would give them: objects that its
    ``choices`` list, and methods, by name, with their own fields. What JSON does not know, as
    text."""
    given: Any = made
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(given), default=str))
    for field, known in getattr(given, "choices", {}).items():
        chosen = getattr(given, field)
        names = [name for name, kind in known.items() if kind is type(chosen)]
        if names:
            values[field] = {"name": names[0], **fields_of(chosen)}
    for each in dataclasses.fields(given):
        if isinstance(chosen := getattr(given, each.name), Method):
            values[each.name] = {"name": chosen.name, **fields_of(chosen)}
    return values


def _access(method: Method) -> Access:
    counted = dict.fromkeys(method.prepares_with.roles, frozenset[str]())
    return method.unlearns_with | Access(counted)


@dataclass(frozen=True)
class Reach:
    """How far all steps together could lead, as shares of the norm of the weights that move.

    Args:
        classes: where whole classes or concepts are to go.
        rows: where other rows with the same labels stay: what is to go is what was learned of these
            rows alone, and a model that never saw them still answers most.
    """

    classes: float
    rows: float

    def of(self, problem: Problem) -> float:
        """The share for a problem."""
        return self.classes if takes_classes(problem) else self.rows

    def adam_rate(self, problem: Problem, steps: int) -> float:
        """The rate at which ``steps`` steps of Adam, all in one direction, lead as far."""
        return self.of(problem) * typical_weight(problem) / max(1, steps)

    def sgd_rate(self, problem: Problem, steps: int, momentum: float, run: Run) -> float:
        """The rate at which ``steps`` steps of SGD along the neutral gradient lead as far.

        Raises:
            ExpungeError: the family has no neutral targets, or their gradient is zero.
        """
        length = neutral_gradient(problem, run)
        share = self.of(problem) * (1 - momentum) / max(FEWEST, steps)
        return share * weights_norm(problem.model) / length


CAREFUL, BOLD = Reach(classes=1.0, rows=0.03), Reach(classes=2.0, rows=0.03)
"""How far the loss on the forget set is to rise, as a share of the way up to that of guessing: for
methods with nothing that keeps the rest, and for those with it."""

CLIMB = tuple(1.35**power for power in range(-8, 3))
"""Factors of a rate of which the smallest that is enough is looked for."""

RAISED = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Factors of a rate that is usually enough, where it was not; tried from below."""


@dataclass(frozen=True)
class Grip:
    """How a rate is held back where the retain rows are lost.

    Args:
        shares: of the rate, tried one after another.
        steady: share of the right answers on retain rows that has to stay.
    """

    shares: tuple[float, ...]
    steady: float


TRAINING = Grip((1.0, 0.3, 0.1, 0.03), 0.95)
"""For methods that train on at a high rate: other rows are lost before the retain rows, on which
they train, so the steps back are long."""

FORGETTING = Grip((1.0, 0.7, 0.5, 0.3, 0.1, 0.03), 0.93)
"""For methods that push the forget rows away: each step back is forgetting that is lost."""


def climbed(
    method: M,
    rate: float,
    rise: Reach,
    problem: Problem,
    run: Run,
    tried_on: Problem | None = None,
) -> M:
    """The method at the smallest of several rates that lifts the loss on the forget set enough;
    held back where it reads retain rows and would lose them.

    Each try answers the request, and is thrown away once its losses are known and, of the rate that
    the climb ends at, what it keeps.

    Args:
        method: a dataclass with a field ``learning_rate``.
        rate: the one that follows from a reach; see :func:`climb`.
        rise: how far the loss is to rise.
        problem: as :meth:`HasPreset.for_problem` sees it.
        run: device and random numbers.
        tried_on: what tries answer where it is not ``problem``: the same with fewer retain rows.

    Raises:
        ExpungeError: whole classes are to go, and at no rate they do; no rate keeps the retain
            rows.
    """
    answered: dict[float, nn.Module] = {}

    def at(factor: float) -> M:
        given: Any = method
        found: M = replace(given, learning_rate=rate * factor)
        return found

    def model(factor: float) -> nn.Module:
        answered[factor] = _answer(at(factor), tried_on or problem, run)
        return answered[factor]

    factor = climb(model, rise, problem, run)
    whole = answered.get(factor) if tried_on is None else None
    return held_back(at(factor), ("learning_rate",), problem, run, FORGETTING, whole)


def climb(model: Callable[[float], nn.Module], rise: Reach, problem: Problem, run: Run) -> float:
    """The smallest of :data:`CLIMB` whose model has lost enough on the forget set; 1 where the
    family has no logits, so that guessing has no loss, or where rows of classes that stay are to
    go and none has. Where one got at least to guessing, the one that lost most.

    Ascent has no end of its own, and the loss of a model rises slowly and then at once, so that no
    one reach fits all models: the forget set itself says when it is enough. A loss that does not
    fall as the factor rises is searched by halves, in four tries.

    Args:
        model: the model that a factor leads to.
        rise: how far the loss is to rise.
        problem: as :meth:`HasPreset.for_problem` sees it.
        run: device and random numbers.

    Raises:
        ExpungeError: whole classes are to go, and no factor lifts the loss to that of guessing (or
            to what was asked for, where this is less).
    """
    without_answers(problem)
    if not isinstance(problem.family, HasLogits):
        return 1.0
    now = forget_loss(problem, problem.model, run)
    guessing = _loss_of_guessing(problem, run)
    goal = now + rise.of(problem) * max(0.0, guessing - now)
    least, losses = min(goal, guessing), {0.0: now}
    low, high = 0, len(CLIMB)
    while low < high:  # the loss rises with the factor: the first that is enough, by halves
        middle = (low + high) // 2
        try:
            losses[CLIMB[middle]] = forget_loss(problem, model(CLIMB[middle]), run)
        except ExpungeError:  # too far: a loss or a weight is no longer finite
            if middle == 0:
                raise
            high = middle
            continue
        if losses[CLIMB[middle]] >= goal:
            high = middle
        else:
            low = middle + 1
    enough = [factor for factor, loss in losses.items() if factor and loss >= goal]
    if enough:
        return min(enough)
    highest = max(losses, key=lambda factor: losses[factor])
    if highest and losses[highest] >= least:
        return highest
    if takes_classes(problem):
        raise _stays(now, least)
    return min(1.0, max(losses))  # no further than where a loss was still finite


def held_back(
    method: M,
    rates: Collection[str],
    problem: Problem,
    run: Run,
    grip: Grip,
    whole: nn.Module | None = None,
) -> M:
    """The method at the largest of a few shares of its rates that keeps what its retain rows hold.

    For methods that read these rows anyway: at too high a rate the model is lost before it forgets,
    and its own training rows say so. Each try answers the request, and is thrown away.

    Args:
        method: a dataclass; its fields ``rates`` are scaled together by the shares of the grip.
        rates: names of fields.
        problem: as :meth:`HasPreset.for_problem` sees it.
        run: device and random numbers.
        grip: the shares, and what has to stay.
        whole: the method's own answer, where it is at hand: it is not made again.

    Returns:
        The method; as it is where the family has no logits, or no labelled retain row is read.

    Raises:
        ExpungeError: at no share enough of the answers stay right.
    """
    given: Any = method

    def at(share: float) -> M:
        found: M = replace(given, **{name: share * getattr(method, name) for name in rates})
        return found

    def model(share: float) -> nn.Module:
        return whole if whole is not None and share == 1 else _answer(at(share), problem, run)

    return at(hold(model, method.name, problem, run, grip))


def hold(
    model: Callable[[float], nn.Module], name: str, problem: Problem, run: Run, grip: Grip
) -> float:
    """The largest share of the grip whose model keeps what its retain rows hold; 1 where the family
    has no logits, or no labelled retain row is read.

    Args:
        model: the model that a share of a rate leads to.
        name: of the method.
        problem: as :meth:`HasPreset.for_problem` sees it.
        run: device and random numbers.
        grip: the shares, and what has to stay.

    Raises:
        ExpungeError: at no share enough of the answers stay right; or what the method says
            where it cannot be run at any.
    """
    without_answers(problem)
    if not isinstance(problem.family, HasLogits) or Role.RETAIN not in problem.data:
        return 1.0
    retain = problem.data[Role.RETAIN]
    if "label" not in retain.fields:
        return 1.0
    draws = run.generator("preset/retain")
    looked_at = retain.select(torch.randperm(len(retain), generator=draws)[:LOOKED_AT])
    before, after = _share_right(problem, problem.model, looked_at, run), math.nan
    for share in grip.shares:
        try:
            tried = model(share)
        except ExpungeError:  # too far: a loss or a weight is no longer finite
            if share == grip.shares[-1] and math.isnan(after):
                raise  # at any rate: the method cannot be run here at all
            continue
        after = _share_right(problem, tried, looked_at, run)
        if after >= grip.steady * before:
            return share
    raise ExpungeError(
        f"The preset of {name} keeps the model at no rate that was tried: accuracy on "
        f"retained rows fell from {before:.3g} to {after:.3g} even at {grip.shares[-1]:g} of its "
        "rate. Take another method (`expunge methods` lists them), or give its fields."
    )


def without_answers(problem: Problem, why: str = "") -> None:
    """Raise an error for a language model, on which nothing here would see what is lost.

    Args:
        problem: as :meth:`HasPreset.for_problem` sees it.
        why: a sentence about the method.
    """
    if isinstance(problem.family, HasAnswers):
        raise ExpungeError(
            "This method has no preset for language models, and its published fields belong to "
            f"other models. {why}{' ' if why else ''}Take one that has (docs/language.md lists "
            "them), give its fields, or let `expunge tune` find them."
        )


def _answer(method: Method, problem: Problem, run: Run) -> nn.Module:
    """The model of a try, which leaves no checkpoint: that is the answer's own."""
    trying = replace(run, checkpoints=None)
    outcome = method.unlearn(problem.opened(method.unlearns_with), Artifact(), trying)
    return outcome.applied_to(problem.model)


def _share_right(problem: Problem, model: nn.Module, samples: Samples, run: Run) -> float:
    """Share of the rows that a model answers with their label."""
    return float(predict(problem.family, model, samples, run).share_right()[0])


def forget_loss(problem: Problem, model: nn.Module, run: Run) -> float:
    """Mean loss on the forget set."""
    values, forget = losses_of(problem.family), problem.data[Role.FORGET]
    total = 0.0
    with evaluating(on_device(model, run)) as asked, torch.no_grad():
        for raw in batches(forget, READ_AT_ONCE):
            batch = {name: tensor.to(run.device) for name, tensor in raw.items()}
            drawn = problem.family.draw(batch, run.generator("preset/loss"))
            total += float(values(asked, drawn).double().sum())
    return total / len(forget)


def _stays(now: float, least: float) -> ExpungeError:
    """What is said where a class goes at no strength."""
    return ExpungeError(
        f"The preset was to lift the loss on the forget set from {now:.3g} to {least:.3g} at "
        "least, and at no strength that was tried it got there: this method does not forget "
        "here. Take another (`expunge methods` lists them), or give its fields, such as "
        "`learning_rate`."
    )


def _loss_of_guessing(problem: Problem, run: Run) -> float:
    """That of a model with logits which finds all classes as likely."""
    forget = problem.data[Role.FORGET]
    return math.log(classes_of(problem.family, problem.model, forget, run))


def wandering_rate(problem: Problem, share: float, steps: int) -> float:
    """The rate at which ``steps`` steps of Adam in directions of their own lead that far: the root
    of their number times one."""
    return share * typical_weight(problem) / math.sqrt(max(1, steps))


def as_far(rate: float, published: int, steps: int, most: float) -> float:
    """A published rate times the number of published steps, over ``steps``: ``most`` at most, and
    never below the published rate."""
    return max(rate, min(most, rate * published / max(1, steps)))


def along_neutral(method: M, reach: Reach, problem: Problem, run: Run) -> M:
    """The method in :data:`PASSES` passes over retain batches, at the rate of SGD that leads as far
    as the reach says; held back where the retain rows are lost.

    Args:
        method: a dataclass with ``epochs``, ``learning_rate``, ``momentum`` and ``batch_size``.
        reach: of its steps on the forget set.
        problem: as :meth:`HasPreset.for_problem` sees it.
        run: device and random numbers.

    Raises:
        ExpungeError: no rate keeps the retain rows.
    """
    found = _in_passes(method, reach, problem, run)
    return held_back(found, ("learning_rate",), problem, run, FORGETTING)


def until_gone(method: M, reach: Reach, problem: Problem, run: Run) -> M:
    """As :func:`along_neutral`; but where whole classes are to go and the loss on them stays below
    that of guessing, at the smallest of :data:`RAISED` times the rate at which it does not. Where
    the retain rows are lost there, it is held back, and part of the class may stay after all.

    How far a gradient leads depends on the network: at the same reach a class that is gone from a
    plain network is still whole in one with batch norm. For methods whose targets, once learned,
    have at least the loss of guessing.

    Args:
        method: a dataclass with ``epochs``, ``learning_rate``, ``momentum`` and ``batch_size``.
        reach: of its steps on the forget set.
        problem: as :meth:`HasPreset.for_problem` sees it.
        run: device and random numbers.

    Raises:
        ExpungeError: whole classes are to go, and at no rate that was tried they do; no rate keeps
            the retain rows.
    """
    found = _in_passes(method, reach, problem, run)
    without_answers(problem)
    if not (takes_classes(problem) and isinstance(problem.family, HasLogits)):
        return held_back(found, ("learning_rate",), problem, run, FORGETTING)
    guessing = _loss_of_guessing(problem, run)
    answered: dict[float, nn.Module] = {}

    def at(factor: float) -> M:
        given: Any = found
        tried: M = replace(given, learning_rate=factor * given.learning_rate)
        return tried

    def gone(factor: float) -> bool:
        answered[factor] = _answer(at(factor), problem, run)
        return forget_loss(problem, answered[factor], run) >= guessing

    def held(factor: float) -> M:
        whole = answered.get(factor)
        return held_back(at(factor), ("learning_rate",), problem, run, FORGETTING, whole)

    try:
        enough = gone(1.0)
    except ExpungeError:  # too far already
        enough = True
    now = forget_loss(problem, problem.model, run)
    if enough or now >= guessing:
        return held(1.0)
    for factor in RAISED:
        try:
            enough = gone(factor)
        except ExpungeError:  # too far: a loss or a weight is no longer finite
            break
        if enough:
            first: Any = at(1.0)
            raised: Any = held(factor)
            return raised if raised.learning_rate >= first.learning_rate else held(1.0)
    raise _stays(now, guessing)


def _in_passes(method: M, reach: Reach, problem: Problem, run: Run) -> M:
    """The method in :data:`PASSES` passes, at the rate of SGD that leads as far as the reach."""
    given: Any = method
    size = retain_batch(problem, given.batch_size)
    steps = passes(problem, Role.FORGET, PASSES, size)
    rate = reach.sgd_rate(problem, steps, given.momentum, run)
    found: M = replace(given, epochs=PASSES, batch_size=size, learning_rate=rate)
    return found


def trained_on(method: M, published: int, most: float, problem: Problem, run: Run) -> M:
    """The method in :data:`PASSES` passes, at a rate that goes as far in them as the published one
    in its own; held back where the retain rows are lost.

    Args:
        method: a dataclass with ``epochs``, ``learning_rate`` and ``batch_size``.
        published: steps of the published setting.
        most: the largest rate.
        problem: as :meth:`HasPreset.for_problem` sees it.
        run: device and random numbers.

    Raises:
        ExpungeError: no rate keeps the retain rows.
    """
    given: Any = method
    size = retain_batch(problem, given.batch_size)
    steps = passes(problem, Role.RETAIN, PASSES, size)
    rate = as_far(given.learning_rate, published, steps, most)
    fitting: M = replace(given, epochs=PASSES, batch_size=size, learning_rate=rate)
    return held_back(fitting, ("learning_rate",), problem, run, TRAINING)


def retain_batch(problem: Problem, most: int) -> int:
    """Rows of a batch in passes over the retain set, ``most`` at most."""
    return min(most, max(SMALLEST, len(problem.data[Role.RETAIN]) // PASS))


def forget_batch(problem: Problem, most: int) -> int:
    """Rows of a batch in passes over the forget set alone, ``most`` at most."""
    return min(most, max(SMALLEST_FORGET, len(problem.data[Role.FORGET]) // FORGET_PASS))


def passes(problem: Problem, role: Role, epochs: int, batch_size: int) -> int:
    """Steps of that many passes over a role."""
    return epochs * batches_of(len(problem.data[role]), batch_size)


def takes_classes(problem: Problem) -> bool:
    """Whether a request takes whole classes or concepts away.

    Labels that can be read decide before the name of a column does, since rows named by a column
    "label" may be a part of a class. Where those of both sets are open, no retained row has one of
    the forgotten rows. Elsewhere the request says so itself, if the forgotten rows do not have
    other labels than it names.
    """
    gone, kept = (_open_labels(problem, role) for role in (Role.FORGET, Role.RETAIN))
    if gone is not None and kept is not None:
        return not bool(torch.isin(gone, kept).any())
    request = problem.request
    if not request.labels and request.target.kind not in ("class", "concept"):
        return False
    named = _named_classes(request)
    return gone is None or not named or set(gone.tolist()) <= named


def neutral_gradient(problem: Problem, run: Run) -> float:
    """Norm of the gradient of the mean loss on the forget set under neutral targets.

    Raises:
        ExpungeError: the family has no neutral targets, or their gradient is zero.
    """
    family, forget = problem.family, problem.data[Role.FORGET]
    draws, scorer, values = run.generator("preset"), able(family, HasNeutral), losses_of(family)
    if len(forget) > LOOKED_AT:
        forget = forget.select(torch.randperm(len(forget), generator=draws)[:LOOKED_AT])

    def neutral(model: nn.Module, batch: Batch) -> Tensor:
        with reading(batch):
            return values(model, scorer.neutral(batch, draws))

    run.meter.touch(Role.FORGET.value, len(forget))
    length = _norm(mean_gradient(neutral, family, problem.model, forget, run))
    if length == 0:
        raise ExpungeError(
            "The loss under neutral targets has no gradient on the forget set, so no learning rate "
            "follows from it; check that the model reads its inputs, or give `learning_rate`."
        )
    return length


def weights_norm(model: nn.Module) -> float:
    """Euclidean norm of all weights that may move."""
    return _norm(_moving(model))


def typical_weight(problem: Problem) -> float:
    """Root of the mean square of all weights that may move; of a pruned model, of those it has."""
    return weights_norm(problem.model) / math.sqrt(_count(problem))


def typical_gradient(problem: Problem, run: Run) -> float:
    """Root of the mean square of the gradient of :func:`neutral_gradient`, over the same weights.

    Raises:
        ExpungeError: the family has no neutral targets, or their gradient is zero.
    """
    return neutral_gradient(problem, run) / math.sqrt(_count(problem))


def _count(problem: Problem) -> int:
    """How many weights may move; of a pruned model, of those it has."""
    moving, support = _moving(problem.model), problem.support
    return max(
        1, sum(int(support[n].sum()) if n in support else t.numel() for n, t in moving.items())
    )


def _moving(model: nn.Module) -> dict[str, Tensor]:
    found = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise ExpungeError(
            f"No parameter of {type(model).__name__} requires a gradient; let those that may "
            "change require one."
        )
    return found


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))


def _open_labels(problem: Problem, role: Role) -> Tensor | None:
    """The labels of a role, each once; None where they are shut, or there are none."""
    if role not in problem.data or "label" not in problem.data[role].fields:
        return None
    samples = problem.data[role]
    found: Tensor = torch.unique(samples.batch(torch.arange(len(samples)), {"label"})["label"])
    return found


def _named_classes(request: Request) -> set[int]:
    """The classes that a request names by number; none where it names them in words."""
    if request.labels:
        return set(request.labels)
    target = request.target
    if not isinstance(target, Rows) or target.kind != "class":
        return set()
    return {int(v) for v in target.values} if all(map(str.isdecimal, target.values)) else set()
