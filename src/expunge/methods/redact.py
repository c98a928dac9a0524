"""Redact: leave the forgotten rows out of what the model is served, and the weights as they are.

Min, Gururangan, Wallace, Shi, Hajishirzi, Smith, Zettlemoyer (2023). SILO Language Models:
Isolating Legal Risk in a Nonparametric Datastore. What a model looks up while it answers can be
taken away from it at any time, entry by entry; what it learned cannot. This is that removal for any
store of entries that carry the ids of training rows: a retrieval index, a memory, a graph.

It deletes nothing of the weights: the model is suppressed until they change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.changes.redaction import Redacted
from expunge.errors import ExpungeError
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import Range
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run


@dataclass(frozen=True)
class Redact:
    """Remove the rows of a request from the stores that the model is served from.

    Args:
        stores: names of these stores, as whoever serves the model knows them.

    Raises:
        ExpungeError: no store is named, or one without a name.
    """

    name: ClassVar[str] = "redact"
    paper: ClassVar[str] = (
        "Min et al. 2023, SILO Language Models: Isolating Legal Risk in a Nonparametric Datastore"
    )
    sequential: ClassVar[bool] = False
    needs: ClassVar[tuple[type, ...]] = ()
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access({Role.FORGET: frozenset()})  # their ids alone
    search: ClassVar[Mapping[str, Range]] = {}
    suppresses_by: ClassVar[str] = "redaction"

    stores: tuple[str, ...] = ("index",)

    def __post_init__(self) -> None:
        if not self.stores or not all(self.stores):
            raise ExpungeError(
                f"Redact was given the stores {self.stores!r}; the name of at least one is "
                "expected, such as 'index'."
            )

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """A :class:`~expunge.changes.redaction.Redacted` of the rows, from every store."""
        ids = tuple(problem.data[Role.FORGET].ids)
        facts = {"method": self.name, "request": problem.request.digest()}
        return Outcome((Redacted(dict.fromkeys(self.stores, ids), facts),))
