"""What a method is: from a problem to the change that answers its request."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self, runtime_checkable

from torch import nn

from expunge.changes.delta import Delta
from expunge.changes.kinds import Change, Guard, Replacement
from expunge.descent.loop import Descent
from expunge.errors import ExpungeError
from expunge.families.abilities import able
from expunge.problem import Access, Missing, Problem
from expunge.recipe import LEARNER, MODEL, Record
from expunge.run import Run
from expunge.storage import Bundle

Artifact = Bundle
"""What a method prepared before any request: cached, and read again at each request."""


@dataclass(frozen=True)
class Outcome:
    """The changes that answer one request, and the learner's record where it changed.

    Which model the record is of is said by who serves the changes: a deployment, the ledger.

    ``excluded`` lists the digests of the earlier requests whose rows the method was not shown
    though it read the retain or training set; a deployment fills it in, not the method.
    """

    changes: tuple[Change, ...]
    record: Record | None = None
    excluded: tuple[str, ...] = ()

    @classmethod
    def of(cls, after: nn.Module, before: nn.Module, *, sequential: bool, **facts: object) -> Self:
        """The one change from a model to another: a Delta, or a Replacement if sequential."""
        if sequential:
            return cls((replace(Replacement.of(after, before), facts=facts),))
        return cls((Delta.between(after, before, **facts),))

    def applied_to(self, model: nn.Module) -> nn.Module:
        """The model with the one change of this outcome.

        Raises:
            ExpungeError: there are several changes, or one that is no Delta, Replacement or Guard.
        """
        if len(self.changes) == 1:
            if isinstance(self.changes[0], Delta | Replacement):
                return self.changes[0].applied_to(model)
            if isinstance(self.changes[0], Guard):
                return self.changes[0].around(model)
        kinds = ", ".join(type(change).__name__ for change in self.changes) or "nothing"
        raise ExpungeError(
            f"The method answered with {kinds}; one Delta, new weights or one guard are expected "
            "here. Serve other changes through a deployment."
        )


@runtime_checkable
class Method(Protocol):
    """A frozen dataclass whose fields are its hyper-parameters, with the paper's defaults."""

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        ...

    @property
    def paper(self) -> str:
        """Authors, year and title."""
        ...

    @property
    def needs(self) -> tuple[type, ...]:
        """The abilities that the family must have."""
        ...

    @property
    def sequential(self) -> bool:
        """Whether it starts from the current model (and returns a Replacement), not the base."""
        ...

    @property
    def prepares_with(self) -> Access:
        """What :meth:`prepare` opens."""
        ...

    @property
    def unlearns_with(self) -> Access:
        """What :meth:`unlearn` opens."""
        ...

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Work done once, before requests come."""
        ...

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The change that answers the request; the problem's model stays as it is."""
        ...


@runtime_checkable
class SharesPreparation(Protocol):
    """A method that prepares alike for several values of its fields."""

    @property
    def preparation(self) -> object:
        """All that :meth:`Method.prepare` depends on beside what it opens; it can be hashed."""
        ...


@runtime_checkable
class Suppresses(Protocol):
    """A method that leaves the weights as they are: what it returns acts at inference alone."""

    @property
    def suppresses_by(self) -> str:
        """What it returns, in a word: a guard, a redaction."""
        ...


@runtime_checkable
class ReadsRows(Protocol):
    """A method that cannot work on rows of any kind, or requests of any wording, whatever the
    family is able to."""

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """What the rows of a problem, with every role that the method opens, or the words of its
        request lack for it; it raises an error for the first when it unlearns."""
        ...


def unreadable(method: Method, problem: Problem) -> tuple[Missing, ...]:
    """What the rows of a problem lack for a method; nothing where it reads rows of any kind."""
    return method.unreadable(problem) if isinstance(method, ReadsRows) else ()


def learner_of(method: Method) -> str | None:
    """The registered name of the learner whose record a method reads, by its attribute
    ``of_learner``; None where it reads no record, or that of any learner.

    The record of a method that names one is that of exactly these weights: a deployment shows it
    no other.
    """
    return getattr(method, "of_learner", None)


def preparation_of(method: Method) -> object:
    """What two methods have in common that prepare the same artifact: the method itself, where it
    does not say."""
    if isinstance(method, SharesPreparation):
        return type(method), method.preparation, method.prepares_with.describe()
    return method


class OverDescent(ABC):
    """A method that runs one :class:`~expunge.descent.loop.Descent` and prepares nothing.

    A leaf gives :meth:`descent` and what it makes of its end; access and abilities follow from the
    terms. So another method can run the same descent with something put around it.
    """

    name: ClassVar[str]
    paper: ClassVar[str]

    @abstractmethod
    def descent(self) -> Descent:
        """The expression over players and terms."""

    @abstractmethod
    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """The change that its descent, or that descent with something around it, leads to."""

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The change that answers the request."""
        return self.follow(self.descent(), problem, run)

    @property
    def needs(self) -> tuple[type, ...]:
        """The abilities that the terms need."""
        return self.descent().needs

    @property
    def prepares_with(self) -> Access:
        """Nothing."""
        return Access()

    @property
    def unlearns_with(self) -> Access:
        """The roles that the terms read."""
        return self.descent().access

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()


class ByDescent(OverDescent):
    """A method whose change is where its descent ends."""

    sequential: bool  # a field of each leaf

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """Run the descent from the problem's model; a Delta, or a Replacement if sequential."""
        after = descent.minimise(problem, run).model
        return Outcome.of(after, problem.model, sequential=self.sequential, method=self.name)


def missing(method: Method, problem: Problem) -> tuple[Missing, ...]:
    """What a method needs and the problem does not have; nothing where the method fits.

    What is listed here is what :func:`unlearn` raises for.
    """
    found = []
    for ability in method.needs:
        try:
            able(problem.family, ability)
        except ExpungeError as error:
            clause = f"the family {problem.family.name!r} lacks {ability.__name__}"
            found.append(Missing(clause, str(error)))
    found += problem.missing(method.prepares_with | method.unlearns_with)
    return tuple(found) or _of_another_learner(method, problem) or unreadable(method, problem)


def _of_another_learner(method: Method, problem: Problem) -> tuple[Missing, ...]:
    """That the record is not of the learner whose record the method reads, where both are known."""
    wanted = learner_of(method)
    if wanted is None or problem.record is None:
        return ()
    found = problem.record.facts.get(LEARNER, wanted)
    if found == wanted:
        return ()
    return (
        Missing(
            f"needs the training record of the learner {wanted!r}; this one is of {found!r}",
            f"The method {method.name} needs the training record of the learner {wanted!r}, and "
            f"this model has one of {str(found)!r}; train the model with that learner, or take a "
            "method that does without: `expunge methods` lists them.",
        ),
    )


def unlearn(
    method: Method, problem: Problem, run: Run, artifact: Artifact | None = None
) -> Outcome:
    """Prepare (unless an artifact is given) and unlearn, each with only its declared access.

    Raises:
        ExpungeError: the family lacks an ability that the method needs, or the problem a role.
    """
    for ability in method.needs:
        able(problem.family, ability)
    for lack in _of_another_learner(method, problem):
        raise ExpungeError(lack.sentence)
    with run.meter.measured():
        if artifact is None:
            artifact = method.prepare(problem.opened(method.prepares_with), run)
        outcome = method.unlearn(problem.opened(method.unlearns_with), artifact, run)
    if outcome.record is None:
        return outcome
    facts = {name: fact for name, fact in outcome.record.facts.items() if name != MODEL}
    return replace(outcome, record=Record(outcome.record.tensors, facts))
