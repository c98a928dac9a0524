"""Deployment: a base, the history of changes to it, and the model that they add up to.

This is the working form of the one idea of the package, in memory: requests come one after another,
each is answered by any method, the deltas of all are combined by any rule, and a request can be
withdrawn again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from expunge.aggregation.compose import compose
from expunge.aggregation.fold import fold
from expunge.aggregation.protocol import Aggregation
from expunge.changes.delta import Delta
from expunge.changes.history import History, Served
from expunge.changes.kinds import Replacement
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.methods.protocol import Artifact, Method, Outcome, unlearn
from expunge.problem import Problem
from expunge.recipe import Recipe, Record, Role
from expunge.requests import Named, Request, resolve
from expunge.run import Run


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

    Raises:
        ExpungeError: ``train`` and ``table`` differ in length.
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
        self.history = History.of(digest_of(base))
        self._artifacts: dict[tuple[str, Method], Artifact] = {}
        self._model: nn.Module | None = None

    @property
    def model(self) -> nn.Module:
        """The model as it stands after all requests."""
        if self._model is None:
            self._model = compose(self.base, self.history.current, self.rule)
        return self._model

    def problem(self, request: Request, method: Method) -> Problem:
        """What ``method`` may see of a request: nothing that earlier requests removed.

        Raises:
            ExpungeError: the request names nothing, everything, or was made before.
        """
        rows = resolve(request, self.table, self.history.requests())
        data = {
            **self.data,
            Role.TRAIN: self.train,
            Role.FORGET: self.train.select(rows.forget),
            Role.RETAIN: self.train.select(rows.retain),
        }
        start = self.model if method.sequential else self.base
        return Problem(
            start,
            self.family,
            request,
            data,
            self.history,
            self.companions,
            self.recipe,
            self.record,
        )

    def unlearn(self, request: Request, method: Method, run: Run) -> Outcome:
        """Let ``method`` answer a request; nothing is served yet.

        What the method prepares is kept for later requests of the same epoch.
        """
        problem = self.problem(request, method)
        key = (self.history.current.base, method)
        if key not in self._artifacts:
            with run.meter.measured():
                self._artifacts[key] = method.prepare(problem.opened(method.prepares_with), run)
        return unlearn(method, problem, run, self._artifacts[key])

    def serve(
        self, request: Request, method: Method, outcome: Outcome, strength: float = 1.0
    ) -> Served:
        """Take the answer to a request into the history, and so into the model."""
        reads_retain = Role.RETAIN in method.unlearns_with.roles
        excluded = tuple(r.digest() for r in self.history.requests()) if reads_retain else ()
        entry = Served(request, outcome.changes, strength, excluded)
        self.history = self.history.with_served(entry)
        for change in outcome.changes:
            if isinstance(change, Replacement):
                self.base = change.applied_to(self.base)
        if outcome.record is not None:
            self.record = outcome.record
        self._model = None
        return entry

    def forget(self, request: Request, method: Method, run: Run, strength: float = 1.0) -> Served:
        """Answer one request and serve the answer."""
        return self.serve(request, method, self.unlearn(request, method, run), strength)

    def revoke(self, request: Request) -> None:
        """Withdraw a request: fold the (delta, strength) pairs of all others again.

        Raises:
            ExpungeError: the request is not in the current epoch, or later changes were made
                without its rows and must be made again first.
        """
        self.history = self.history.without(request)
        self._model = None

    def folded(self, deltas: Sequence[tuple[Delta, float]]) -> nn.Module:
        """The base with these (delta, strength) pairs combined by the rule, serving nothing."""
        return fold(self.rule, deltas).applied_to(self.base)
