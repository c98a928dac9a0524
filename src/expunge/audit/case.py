"""A case: a model and the requests that it is to forget, which every method answers anew.

Every answer starts from the same base with an empty history, so that methods and hyper-parameters
can be held against each other.
"""

import dataclasses
import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from expunge.aggregation.protocol import Aggregation
from expunge.audit.measure import Panel
from expunge.audit.oracle import retrained
from expunge.changes.weights import digest_of
from expunge.data.samples import ROW, Samples, batches
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.methods.protocol import Method, missing
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

    def unfit(self, method: Method) -> str | None:
        """Why the method cannot be run on this case, in clauses; None where it can."""
        try:
            lacks = missing(method, self.deployment().problem(self.requests[0], method))
        except Exception as error:  # a third party's method may fail in any way
            return f"it cannot be asked what it needs ({reason_of(error)})"
        return " and ".join(lack.clause for lack in lacks) or None

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
            "base": [digest_of(self.base), digest_of_settings(self.base)],
            "family": described(self.family),
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


FOUNDATIONS = ("methods", "descent", "signals", "learning")
"""The packages whose code decides what a method gives."""


def source_of(kind: type) -> str:
    """SHA-256 (hexadecimal) of the code that the results of a method depend on.

    Args:
        kind: the class of the method. Its own file counts, and those of :data:`FOUNDATIONS`.
    """
    return _sha(_source_of(kind) + digest_of_rooms(FOUNDATIONS))


@cache
def digest_of_rooms(names: tuple[str, ...]) -> str:
    """SHA-256 (hexadecimal) of the code of some rooms, folders or files of this package, read once
    a process."""
    return digest_of_code(Path(__file__).parents[1] / name for name in names)


def digest_of_code(places: Iterable[Path]) -> str:
    """SHA-256 (hexadecimal) of names and contents of Python files, and of all those in folders."""
    parts = [
        [place.name, path.relative_to(place).as_posix(), _sha(path.read_text(encoding="utf-8"))]
        for place in places
        for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))
    ]
    return _sha(repr(parts))


def digest_of_settings(model: nn.Module) -> str:
    """SHA-256 (hexadecimal) of what a module does that its weights do not show.

    That is, of every submodule: its class and the file of it, whether it trains or evaluates, its
    own numbers and texts such as the share of a dropout, and which parameters are frozen.
    """
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    parts: list[object] = [frozen]
    sources: dict[type, str] = {}
    for name, module in model.named_modules():
        kind = type(module)
        sources.setdefault(kind, _source_of(kind))
        own = {key: value for key, value in sorted(vars(module).items()) if _is_setting(key, value)}
        parts.append([name, kind.__qualname__, sources[kind], own])
    return _sha(repr(parts))


def _is_setting(key: str, value: object) -> bool:
    """Whether an attribute is a number, a text, or several; transformers' path is none."""
    if isinstance(value, tuple):
        return all(_is_setting(key, part) for part in value)
    public = not key.startswith("_") and key != "name_or_path"
    return public and isinstance(value, bool | int | float | str)


def described(made: object) -> str:
    """A dataclass field by field, tensors by their digests: their text leaves numbers out."""
    if isinstance(made, Tensor):
        return digest({"": made})
    if isinstance(made, Mapping):
        return repr(sorted((repr(key), described(value)) for key, value in made.items()))
    if dataclasses.is_dataclass(made) and not isinstance(made, type):
        values = {f.name: described(getattr(made, f.name)) for f in dataclasses.fields(made)}
        return f"{type(made).__qualname__} {values}"
    return repr(made)


def _described(recipe: Recipe) -> list[object]:
    """Learner, seed, and the untrained model, which stands for the builder."""
    untrained = recipe.builder(recipe.seed)
    return [
        described(recipe.learner),
        recipe.seed,
        digest_of(untrained),
        digest_of_settings(untrained),
    ]


def _source_of(kind: type) -> str:
    try:
        file = inspect.getsourcefile(kind)
    except TypeError:  # a class of a notebook or of an interpreter has no file
        return ""
    try:
        return "" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return ""


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
