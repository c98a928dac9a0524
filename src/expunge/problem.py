"""Problem: everything a method may see, and nothing that it may not.

A method declares its access: the roles, and the fields of each, that it opens while preparing and
while unlearning. Everything else raises :class:`~expunge.errors.AccessError` when touched.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor, nn

from expunge.changes.history import History
from expunge.data.samples import Batch, Samples
from expunge.errors import AccessError, ExpungeError, IntegrityError
from expunge.families.abilities import Family
from expunge.recipe import Recipe, Record, Role
from expunge.requests import Request

NONE = "there is none"
"""Why there is no recipe and no record, where nothing else is known."""
REMEDY = "retrain, or start again from the model before the requests that were answered without it"
"""What to do about a record of other weights."""

Fields = frozenset[str] | None
"""The fields of a role that may be read; None means every field."""


@dataclass(frozen=True)
class Access:
    """The roles and fields that a phase of a method opens.

    ``Access.to(Role.FORGET)`` opens every field of the forget set;
    ``Access({Role.FORGET: frozenset({"image"})})`` keeps its labels shut.
    """

    roles: Mapping[Role, Fields] = field(default_factory=dict)
    recipe: bool = False
    record: bool = False

    @classmethod
    def to(cls, *roles: Role, recipe: bool = False, record: bool = False) -> Self:
        """Access to every field of these roles."""
        return cls(dict.fromkeys(roles), recipe, record)

    def __or__(self, other: "Access") -> "Access":
        """What either opens."""
        roles = dict(self.roles)
        for role, fields in other.roles.items():
            mine = roles.get(role, frozenset())
            roles[role] = None if mine is None or fields is None else mine | fields
        return Access(roles, self.recipe or other.recipe, self.record or other.record)

    def describe(self) -> str:
        """In words, for tables."""
        words = [
            role.value if fields is None else f"{role.value} ({', '.join(sorted(fields)) or 'ids'})"
            for role, fields in self.roles.items()
        ]
        words += ["recipe"] * self.recipe + ["record"] * self.record
        return ", ".join(words) or "nothing"


class OpenFields:
    """Samples of which only the opened fields can be read.

    The samples themselves are private: a method reads them through the guard or not at all.
    """

    def __init__(self, samples: Samples, role: Role, opened: frozenset[str]) -> None:
        self._samples, self._role, self._opened = samples, role, opened

    @property
    def ids(self) -> Sequence[str]:
        """The stable ids."""
        return self._samples.ids

    @property
    def subjects(self) -> Sequence[str]:
        """The subjects; they are open where every field is, or where ``subject`` is named."""
        self._check({"subject"})
        return self._samples.subjects

    @property
    def fields(self) -> frozenset[str]:
        """The opened fields."""
        return self._samples.fields & self._opened

    def __len__(self) -> int:
        return len(self._samples)

    def _check(self, fields: Collection[str]) -> None:
        closed = sorted(set(fields) - self._opened)
        if closed:
            raise AccessError(
                f"The method read {closed[0]!r} of the {self._role.value} set; its access opens "
                f"{', '.join(sorted(self._opened)) or 'no field'}. Declare the field in the "
                "method's access, or do not read it."
            )

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        """A batch of opened fields."""
        wanted = self.fields if fields is None else fields
        self._check(wanted)
        return self._samples.batch(rows, wanted)

    def select(self, rows: Tensor) -> "OpenFields":
        """The samples at these positions, guarded alike."""
        return OpenFields(self._samples.select(rows), self._role, self._opened)


@dataclass(frozen=True)
class Missing:
    """Something that a method needs and is not there: in a clause, and as the error's sentence."""

    clause: str
    sentence: str
    error: type[ExpungeError] = ExpungeError


def _missing_role(role: Role, held: Collection[Role]) -> Missing:
    given = ", ".join(sorted(r.value for r in held)) or "none"
    return Missing(
        f"needs the {role.value} set; there is {given}",
        f"The method needs the {role.value} set; this problem has {given}. Give the set, "
        "or take a method that does without it: `expunge methods` lists them.",
    )


class GuardedData(Mapping[Role, Samples]):
    """Data by role; a role that the access does not open raises when it is touched.

    The data themselves are private: a method reads them through the guard or not at all.
    """

    def __init__(self, data: Mapping[Role, Samples], access: Access) -> None:
        self._data, self._access = data, access

    def __getitem__(self, role: Role) -> Samples:
        if role not in self._access.roles:
            raise AccessError(
                f"The method touched the {role.value} set; its access opens "
                f"{self._access.describe()}. Declare the role in the method's access, or do "
                "not read it."
            )
        if role not in self._data:
            raise ExpungeError(_missing_role(role, self._data).sentence)
        samples, opened = self._data[role], self._access.roles[role]
        return samples if opened is None else OpenFields(samples, role, opened)

    def __contains__(self, role: object) -> bool:
        return role in self._data and role in self._access.roles

    def __iter__(self) -> Iterator[Role]:
        return (role for role in self._data if role in self._access.roles)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True)
class Problem:
    """One request on one model, as a method sees it.

    Args:
        model: one module whose children are the parts; never changed. It is the base, or the
            current model for methods that are ``sequential``.
        family: what kind of model it is.
        request: target, anchor, labels, text.
        data: samples by role. The retain set and the training set leave out every earlier forget
            set.
        companions: modules beside the model: discriminator, judge, teacher.
        history: earlier requests and changes.
        recipe: how the model was made, where it is known.
        record: what its learner kept, where it kept anything.
        support: the weights that a pruned model has: truth values of the shape of a parameter, by
            canonical name. No descent moves the others, by momentum and decay neither, whatever its
            players select. A parameter without a mask is whole.
        no_record: why there is no record.
    """

    model: nn.Module
    family: Family
    request: Request
    data: Mapping[Role, Samples]
    history: History
    companions: Mapping[str, nn.Module] = field(default_factory=dict)
    recipe: Recipe | None = None
    record: Record | None = None
    support: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    no_record: str = NONE

    def missing(self, access: Access) -> tuple[Missing, ...]:
        """What the access needs and this problem does not have: roles, the recipe, the record."""
        found = [_missing_role(role, self.data) for role in access.roles if role not in self.data]
        for needed, given, word, why in (
            (access.recipe, self.recipe, "recipe", NONE),
            (access.record, self.record, "training record", self.no_record),
        ):
            if needed and given is None:
                said = "this problem has none; give it" if why == NONE else f"{why}; {REMEDY}"
                sentence = (
                    f"The method needs the {word} of the model and {said}, or take a method that "
                    "does without it: `expunge methods` lists them."
                )
                error = ExpungeError if why == NONE else IntegrityError
                found.append(Missing(f"needs the {word}; {why}", sentence, error))
        return tuple(found)

    def opened(self, access: Access) -> "Problem":
        """The problem as a phase with this access sees it.

        Raises:
            ExpungeError: a role, the recipe or the record that the access needs is not there.
            IntegrityError: the record that is there is that of another model.
        """
        for lack in self.missing(access):
            raise lack.error(lack.sentence)
        return replace(
            self,
            data=GuardedData(self.data, access),
            recipe=self.recipe if access.recipe else None,
            record=self.record if access.record else None,
        )
