"""Deployment: a base, the history of changes to it, and the model that they add up to.

This is the working form of the one idea of the package, in memory: requests come one after another,
each is answered by any method, the deltas of all are combined by any rule, and a request can be
withdrawn again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from expunge.aggregation.compose import compose
from expunge.aggregation.fold import fold
from expunge.aggregation.protocol import Aggregation
from expunge.changes.deletion import DeletionState, state_of
from expunge.changes.delta import Delta
from expunge.changes.history import History, Served
from expunge.changes.kinds import Guard, Replacement, acts_on
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.abilities import Family
from expunge.methods.protocol import Artifact, Method, Outcome, learner_of, preparation_of, unlearn
from expunge.problem import Access, Problem
from expunge.recipe import Recipe, Record, Role, belongs, record_of
from expunge.requests import Named, Request, Resolved, resolve
from expunge.run import Run

OTHER_WEIGHTS = "the current model is not the one of the training record that is there"
"""Why a record is not shown: what was served since came from a method that keeps none."""


class Deployment:
    """A model in use, with everything that is needed to answer removal requests.

    Args:
        base: the trained model; it is never changed.
        family: what kind of model it is.
        train: the rows it was trained on.
        table: the columns by which requests name rows of ``train``, row by row.
        rule: how the deltas of several requests are combined.
        data: further samples by role that methods may ask for.
        recipe: how the base was made, where it is known.
        record: what its learner kept.
        companions: modules beside the model.
        history: what was served before; its current epoch stands on ``base``. Nothing by default.

    Raises:
        ExpungeError: ``train`` and ``table`` differ in length.
        IntegrityError: the history stands on another base.
    """

    def __init__(
        self,
        base: nn.Module,
        family: Family,
        train: Samples,
        table: Named,
        rule: Aggregation[Any],
        *,
        data: Mapping[Role, Samples] | None = None,
        recipe: Recipe | None = None,
        record: Record | None = None,
        companions: Mapping[str, nn.Module] | None = None,
        history: History | None = None,
    ) -> None:
        if len(train) != len(table):
            raise ExpungeError(
                f"There are {len(train)} training samples and {len(table)} rows in their table; "
                "each sample needs its row. Give both in the same order."
            )
        self.family, self.train, self.table, self.rule = family, train, table, rule
        self.data, self.recipe, self.record = dict(data or {}), recipe, record
        self.companions = dict(companions or {})
        self.base = base
        found = digest_of(base)
        self.history = History.of(found) if history is None else history
        if self.history.current.base != found:
            raise IntegrityError(
                f"The history stands on the base {self.history.current.base[:12]} and was given "
                f"{found[:12]}; restore it on its own base."
            )
        self._artifacts: dict[object, tuple[str, Artifact]] = {}
        self._model: nn.Module | None = None

    @property
    def model(self) -> nn.Module:
        """The model as it stands after all requests."""
        if self._model is None:
            self._model = compose(self.base, self.history.current, self.rule)
        return self._model

    def problem(self, request: Request, method: Method) -> Problem:
        """What ``method`` may see of a request: nothing that earlier requests removed.

        Neither the retain set nor the training set holds a row of an earlier request; nor does the
        forget set of a method that works on the learner's record, which lacks it already. The
        training set is there for methods that open it, and before the first request for every
        method.

        Raises:
            ExpungeError: the request names nothing, everything, or was made before; or all its rows
                are out of the record.
        """
        return self._problem(request, method, self._resolved(request))

    def _resolved(self, request: Request) -> Resolved:
        return resolve(request, self.table, self.history.requests())

    def _problem(self, request: Request, method: Method, rows: Resolved) -> Problem:
        data = {
            **self.data,
            Role.FORGET: self.train.select(rows.forget),
            Role.RETAIN: self.train.select(rows.retain),
        }
        if not rows.excluded:
            data[Role.TRAIN] = self.train
        elif Role.TRAIN in _access(method).roles:
            data[Role.TRAIN] = self.train.select(rows.train)
        if _access(method).record:
            data[Role.FORGET] = self.train.select(self._still_there(request, rows))
        start = self.model if method.sequential else self.base
        problem = Problem(
            start,
            self.family,
            request,
            data,
            self.history,
            self.companions,
            self.recipe,
            self.record,
        )
        if self.record is None or learner_of(method) is None or belongs(self.record, self.model):
            return problem
        return replace(problem, record=None, no_record=OTHER_WEIGHTS)

    def unlearn(self, request: Request, method: Method, run: Run) -> Outcome:
        """Let ``method`` answer a request; nothing is served yet.

        What the method prepares is kept and used again as long as it would see the same: the same
        model, the same rows of every role that it opens while preparing, the same record, and the
        run has the same seed, device and precision; also by a method whose fields differ only in
        what its preparation does not depend on. A method that prepares with the forget, retain or
        training set therefore prepares anew once another request was served.

        Returns:
            The outcome; ``excluded`` names the earlier requests whose rows were kept from it.
        """
        rows = self._resolved(request)
        problem = self._problem(request, method, rows)
        outcome = unlearn(method, problem, run, self._prepared(problem, method, run))
        reads = {Role.RETAIN, Role.TRAIN} & set(_access(method).roles)
        return replace(outcome, excluded=rows.excluded if reads else ())

    def _prepared(self, problem: Problem, method: Method, run: Run) -> Artifact:
        seen = problem.opened(method.prepares_with)
        sha = hashlib.sha256(digest_of(problem.model).encode())
        sha.update(repr((run.seed, run.device, run.precision)).encode())
        for role in sorted(seen.data):
            sha.update(repr((role.value, list(seen.data[role].ids))).encode())
        shared = preparation_of(method)  # two alphas of SSD have one Fisher information
        known, artifact = self._artifacts.get(shared, ("", None))
        if artifact is None or known != sha.hexdigest():
            with run.meter.measured():
                artifact = method.prepare(seen, run)
            self._artifacts[shared] = sha.hexdigest(), artifact
        return artifact

    def serve(
        self, request: Request, method: Method, outcome: Outcome, strength: float = 1.0
    ) -> Served:
        """Take the answer to a request into the history, and so into the model.

        Raises:
            IntegrityError: a change belongs to another base, or a Replacement to a model that is
                not the current one; nothing was served.
            ExpungeError: a Replacement is to be served at a strength other than 1, or after a guard
                whose rows are still in it; nothing was served.
        """
        new = [change for change in outcome.changes if isinstance(change, Replacement)]
        if new:
            self._check_replacement(request, new[0], strength)
        entry = Served(request, outcome.changes, strength, outcome.excluded)
        history = self.history.with_served(entry)
        for change in new:
            self.base = change.applied_to(self.base)
        self.history = history
        self._model = None
        if outcome.record is not None:
            self.record = record_of(self.model, outcome.record)
            self._artifacts.clear()
        return entry

    def _left_weights(self) -> set[int]:
        """Positions of the rows that are in no weights and no record any more.

        New weights took out the rows of their own request, and a training anew those of every
        request before it. What acts at inference takes nothing out. Of an ended epoch the changes
        may not be at hand; what is left of it are answers that new weights took up.
        """
        named: set[int] = set()
        left: set[int] = set()
        for epoch in self.history.epochs:
            for entry in epoch.served:
                own = set(entry.request.target.rows(self.table).tolist())
                named |= own
                states = {state_of(c) for c in entry.changes if isinstance(c, Replacement)}
                if DeletionState.RETRAINED in states:
                    left |= named
                elif states or (epoch is not self.history.current and not entry.changes):
                    left |= own
        return left

    def _still_there(self, request: Request, rows: Resolved) -> Tensor:
        """Positions (n,) of the rows to forget that the record still has."""
        left = torch.tensor(sorted(self._left_weights()), dtype=torch.int64)
        found = rows.forget[~torch.isin(rows.forget, left)]
        if len(found) == 0:
            raise ExpungeError(
                f"All {len(rows.forget)} rows that {request.name!r} names were removed by earlier "
                "requests; nothing is left of them in the training record. Name rows that are "
                "there."
            )
        return found

    def _check_replacement(self, request: Request, change: Replacement, strength: float) -> None:
        if strength != 1:
            raise ExpungeError(
                f"The answer to {request.name!r} is a Replacement, which has no strength, and "
                f"{strength} was given; serve it at strength 1, or take a method that gives a "
                "Delta."
            )
        if left := self._left_behind(request, state_of(change)):
            raise ExpungeError(
                f"The answer to {request.name!r} is a Replacement, and what is kept from "
                f"{', '.join(map(repr, left))} stands in a guard or a redaction, whose rows the "
                "new weights would still hold. Withdraw these, answer them with a method that "
                f"changes the weights, and then {request.name!r}."
            )
        found = digest_of(self.model)
        if change.before != found:
            raise IntegrityError(
                f"The Replacement for {request.name!r} takes the place of the model "
                f"{change.before[:12]}, and the current model is {found[:12]}: it would undo what "
                "was served since; make it again from the current model."
            )

    def _left_behind(self, request: Request, state: DeletionState) -> list[str]:
        """The requests that new weights in a state would leave unanswered: guards, where they are
        an edit; whatever acts at inference, where they are exact without its rows alone."""
        if state is DeletionState.RETRAINED:
            return []
        asked = set(request.target.rows(self.table).tolist())
        gone = self._left_weights() | asked if state is DeletionState.EXACT else set[int]()
        return [
            entry.request.name
            for entry in self.history.current.served
            if any(
                isinstance(each, Guard)
                or (state is DeletionState.EXACT and acts_on(each) == "input")
                for each in entry.changes
            )
            and not (gone and gone.issuperset(entry.request.target.rows(self.table).tolist()))
        ]

    def forget(self, request: Request, method: Method, run: Run, strength: float = 1.0) -> Served:
        """Answer one request and serve the answer."""
        return self.serve(request, method, self.unlearn(request, method, run), strength)

    def revoke(self, request: Request) -> None:
        """Withdraw a request: fold the (delta, strength) pairs of all others again.

        Raises:
            ExpungeError: a Replacement was served since, the request was never made, or later
                changes were made without its rows: withdraw those first, the latest before the
                others, then this one, then request those again.
        """
        self.history = self.history.without(request)
        self._model = None

    def folded(self, deltas: Sequence[tuple[Delta, float]]) -> nn.Module:
        """The base with these (delta, strength) pairs combined by the rule, serving nothing."""
        return fold(self.rule, deltas).applied_to(self.base)


def _access(method: Method) -> Access:
    return method.prepares_with | method.unlearns_with
