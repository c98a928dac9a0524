"""A case: a model and the requests that it is to forget, which every method answers anew.

Every answer starts from the same base with an empty history, so that methods and hyper-parameters
can be held against each other.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from torch import nn

from expunge.aggregation.protocol import Aggregation
from expunge.audit.measure import Panel
from expunge.audit.oracle import retrained
from expunge.changes.weights import digest_of
from expunge.data.samples import ROW, Samples, batches
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.methods.protocol import Method
from expunge.recipe import Recipe, Record, Role
from expunge.requests import Named, Request
from expunge.run import Run
from expunge.storage import digest


@dataclass(frozen=True, eq=False)
class Case:
    """What every method is given. No held-out row is part of it.

    ``strength`` is how far each Delta is applied; methods that return new weights have none.
    """

    base: nn.Module
    family: Family
    train: Samples
    table: Named
    rule: Aggregation[Any]
    requests: tuple[Request, ...]
    strength: float = 1.0
    data: Mapping[Role, Samples] = field(default_factory=dict)
    recipe: Recipe | None = None
    record: Record | None = None
    companions: Mapping[str, nn.Module] = field(default_factory=dict)

    @classmethod
    def of(cls, deployment: Deployment, requests: Sequence[Request], strength: float = 1.0) -> Self:
        """The case of a deployment without any request yet.

        Raises:
            ExpungeError: there is no request, or requests were answered before.
        """
        if not requests or deployment.history.requests():
            raise ExpungeError(
                f"{len(requests)} requests were given for a model that has answered "
                f"{len(deployment.history.requests())}; at least one, for a model that has "
                "answered none, are expected."
            )
        return cls(
            deployment.base,
            deployment.family,
            deployment.train,
            deployment.table,
            deployment.rule,
            tuple(requests),
            strength,
            deployment.data,
            deployment.recipe,
            deployment.record,
            deployment.companions,
        )

    def deployment(self) -> Deployment:
        """The base in use, before any request."""
        return Deployment(
            self.base,
            self.family,
            self.train,
            self.table,
            self.rule,
            data=self.data,
            recipe=self.recipe,
            record=self.record,
            companions=self.companions,
        )

    def answered(self, method: Method, run: Run) -> Deployment:
        """The deployment after ``method`` answered every request, one after another.

        Torch's global random numbers start from the run's seed and the method's name, so that a
        method that draws from them gives the same digits again.
        """
        deployment = self.deployment()
        strength = 1.0 if method.sequential else self.strength
        with run.seeded(f"case {method.name}"):
            for request in self.requests:
                deployment.forget(request, method, run, strength)
        return deployment

    def retrained(self, run: Run) -> nn.Module:
        """The oracle: the recipe's model without the rows of all requests.

        Raises:
            ExpungeError: there is no recipe.
        """
        return retrained(self.deployment(), self.requests, run)

    def with_seed(self, seed: int, run: Run) -> "Case":
        """The same case on a base that its recipe makes from another seed.

        Raises:
            ExpungeError: there is no recipe.
        """
        if self.recipe is None:
            raise ExpungeError(
                "A model of another seed was asked for and the recipe of this one is not known; "
                "give the recipe, or compare on the one model."
            )
        recipe = self.recipe.with_seed(seed)
        trained = recipe.make({**self.data, Role.TRAIN: self.train}, run)
        return replace(self, base=trained.model, recipe=recipe, record=trained.record)

    def forget_rows(self) -> Panel:
        """The training rows that the requests name."""
        return Panel.of_forget_rows(self.train, self.table, self.requests)

    def describe(self) -> dict[str, object]:
        """Digests and settings of all that an answer depends on beside method and run."""
        return {
            "base": digest_of(self.base),
            "family": repr(self.family),
            "train": digest_of_samples(self.train),
            "data": {role.value: digest_of_samples(s) for role, s in sorted(self.data.items())},
            "requests": [
                [request.digest(), _sha(repr(request.target.rows(self.table).tolist()))]
                for request in self.requests
            ],
            "rule": repr(self.rule),
            "strength": self.strength,
            "recipe": None if self.recipe is None else _described(self.recipe),
            "record": None if self.record is None else digest(self.record.tensors),
            "companions": {n: digest_of(module) for n, module in sorted(self.companions.items())},
        }


def digest_of_samples(samples: Samples) -> str:
    """SHA-256 (hexadecimal) of ids, subjects and the tensors of every field."""
    sha = hashlib.sha256(repr((list(samples.ids), list(samples.subjects))).encode())
    for batch in batches(samples, 1024):
        sha.update(digest({n: t for n, t in batch.items() if n != ROW}).encode())
    return sha.hexdigest()


def reason_of(error: BaseException) -> str:
    """Why a method failed, in one line; with the kind of errors that are not ours."""
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, ExpungeError):
        return lines[0]
    return f"{type(error).__name__}: {lines[0]}".removesuffix(": ")


def _described(recipe: Recipe) -> list[object]:
    """Learner, seed and the digest of the initial weights, which stands for the builder."""
    untrained = recipe.builder(recipe.seed)
    return [repr(recipe.learner), recipe.seed, digest_of(untrained)]


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
