"""Who is forgotten, who stays, and who was never there: splits by person, not by row.

Choi, Na (2023). Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial
Recognition Systems. Their rule takes the first 1,500 rows of the training table, which may leave
the last person half forgotten and half retained; ours ends where a person ends.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Protocol

import datasets
import torch
from torch import Tensor

from expunge.data.samples import Samples, all_but
from expunge.errors import ExpungeError
from expunge.requests import Request, Rows

FEWEST = 2
"""Records of a person who is to be forgotten."""


@dataclass(frozen=True, eq=False)
class People:
    """The rows of a task by what becomes of their persons; the subject of a row is its person.

    Args:
        train: rows of those to be forgotten and of those who stay.
        forgotten: positions (n,) of the former.
        test: rows of others, on whom the task is measured.
        unseen: rows of yet others, whom the attack takes for strangers.
        validation: rows of yet others, on whom strengths are chosen; None where there are none.
        as_published: the parts are those of the paper: a person may be on both sides of the cut,
            or have one record.

    Raises:
        ExpungeError: a part is empty, a person is in two parts, or one who is to be forgotten has a
            single record.
    """

    train: Samples
    forgotten: Tensor
    test: Samples
    unseen: Samples
    validation: Samples | None = None
    as_published: bool = False

    def __post_init__(self) -> None:
        parts = self.parts
        for name, part in parts.items():
            if len(part) == 0:
                raise ExpungeError(
                    f"The {name} set has no row; each of {', '.join(parts)} needs persons. Give "
                    "more persons, or forget fewer."
                )
        for (one, first), (other, second) in combinations(parts.items(), 2):
            shared = sorted(set(first.subjects) & set(second.subjects))
            if shared and not (self.as_published and (one, other) == ("forget", "retain")):
                raise ExpungeError(
                    f"The person {shared[0]!r} is in the {one} set and in the {other} set "
                    f"({len(shared)} such); every person is expected in one set alone, since what "
                    "is known of a person would else be taken for what is known of a row. Split by "
                    "person."
                )
        if self.single and not self.as_published:
            raise ExpungeError(
                f"The person {self.single[0]!r} is to be forgotten and has one record "
                f"({len(self.single)} such); at least {FEWEST} are expected, since of one record "
                "nobody can say whether the person or the row was learned. Forget the row by its "
                "id, or leave the person out."
            )

    @property
    def parts(self) -> dict[str, Samples]:
        """The rows by the name of their part."""
        held = {} if self.validation is None else {"validation": self.validation}
        return {
            "forget": self.forget,
            "retain": self.retain,
            **held,
            "test": self.test,
            "unseen": self.unseen,
        }

    @cached_property
    def forget(self) -> Samples:
        """The rows of those to be forgotten."""
        return self.train.select(self.forgotten)

    @cached_property
    def retain(self) -> Samples:
        """The rows of those who stay."""
        return self.train.select(all_but(len(self.train), self.forgotten))

    @cached_property
    def single(self) -> list[str]:
        """Those to be forgotten of whom there is one record."""
        counts = Counter(self.train.subjects)
        return sorted(name for name in set(self.forget.subjects) if counts[name] < FEWEST)

    @cached_property
    def divided(self) -> list[str]:
        """Those who are to be forgotten and stay at the same time, by the published cut."""
        return sorted(set(self.forget.subjects) & set(self.retain.subjects))

    @property
    def table(self) -> datasets.Dataset:
        """The columns by which a request names training rows."""
        return datasets.Dataset.from_dict(
            {"id": list(self.train.ids), "subject": list(self.train.subjects)}
        )

    @property
    def request(self) -> Request:
        """What is asked for: persons; rows where the published cut divides one."""
        names = sorted(set(self.forget.subjects))
        what = f"{len(names)} persons"
        if self.divided:
            return Request(f"{what}, one in part", Rows("id", tuple(self.forget.ids)))
        return Request(what, Rows("subject", tuple(names)))

    def counts(self) -> dict[str, list[int]]:
        """Rows and persons of every part."""
        return {name: [len(p), len(set(p.subjects))] for name, p in self.parts.items()}


class Cut(Protocol):
    """A rule that says which rows of a training table are to be forgotten."""

    @property
    def as_published(self) -> bool:
        """Whether it is the rule of the paper."""
        ...

    def forgotten(self, subjects: Sequence[str]) -> Tensor:
        """Positions (n,) of the rows, from the persons of all training rows in table order."""
        ...


@dataclass(frozen=True)
class FirstRows:
    """The first rows, whoever they are of."""

    rows: int = 1_500
    as_published: bool = True

    def forgotten(self, subjects: Sequence[str]) -> Tensor:
        """The first of all."""
        return torch.arange(min(self.rows, len(subjects)))


@dataclass(frozen=True)
class WholePersons:
    """Persons in the order of the table with all their rows, as many as have ``rows`` together."""

    rows: int = 1_500
    as_published: bool = False

    def forgotten(self, subjects: Sequence[str]) -> Tensor:
        """All rows of the first persons; of one at least."""
        counts, wanted, total = Counter(subjects), set[str](), 0
        for name in dict.fromkeys(subjects):
            if wanted and total + counts[name] > self.rows:
                break
            wanted.add(name)
            total += counts[name]
        return torch.tensor([i for i, name in enumerate(subjects) if name in wanted])


AS_PUBLISHED, AT_A_PERSON = FirstRows(), WholePersons()
"""The cut of the paper, and ours."""

PARTS = ("forget", "retain", "validation", "test", "unseen")


def drawn(
    samples: Samples, each: Mapping[str, int], draw: int, strata: Sequence[str] | None = None
) -> People:
    """People drawn by the digests of their names.

    Args:
        samples: rows of all persons.
        each: number of persons of each of :data:`PARTS`, from every stratum.
        draw: another number draws others.
        strata: of each row; the persons of each are shared out alike. One by default.

    Raises:
        ExpungeError: a stratum has too few persons; and what :class:`People` refuses.
    """
    kinds = ["all"] * len(samples) if strata is None else list(strata)
    of_stratum: dict[str, list[str]] = {}
    for kind, name in dict.fromkeys(zip(kinds, samples.subjects, strict=True)):
        of_stratum.setdefault(kind, []).append(name)
    part_of: dict[str, str] = {}
    wanted = [part for part in PARTS for _ in range(each[part])]
    for kind, names in of_stratum.items():
        if len(names) < len(wanted):
            raise ExpungeError(
                f"Of {kind!r} there are {len(names)} persons, and {len(wanted)} are expected "
                f"({', '.join(f'{n} {part}' for part, n in each.items())}). Ask for fewer."
            )
        order = sorted(names, key=lambda n: hashlib.sha256(f"{draw}:{n}".encode()).digest())
        part_of.update(zip(order, wanted, strict=False))
    subjects = list(samples.subjects)

    def rows(*parts: str) -> Tensor:
        return torch.tensor([i for i, n in enumerate(subjects) if part_of.get(n) in parts])

    train = samples.select(rows("forget", "retain"))
    at = [i for i, name in enumerate(train.subjects) if part_of[name] == "forget"]
    return People(
        train,
        torch.tensor(at, dtype=torch.int64),
        samples.select(rows("test")),
        samples.select(rows("unseen")),
        samples.select(rows("validation")) if each["validation"] else None,
    )
