"""What is asked of the dual encoder: groups of concepts, drawn from two halves that share none.

A group is a Unicode subgroup of the shipped emoji. Choices are made on the development half and
reported figures come from the other one.
"""

import functools
import hashlib
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import torch
from datasets import Dataset
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.audit.measure import Panel
from expunge.benchmarks import demo, shipped
from expunge.benchmarks.shipped import Work
from expunge.data import emoji_grid
from expunge.data.samples import Samples, all_but
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.recipe import Role
from expunge.requests import Named, Request, Rows
from expunge.run import Run
from expunge.signals.ask import ask

FEWEST, MOST = 6, 8
"""Concepts of a group; of a larger subgroup so many are drawn."""

KNOWN = 0.25
"""Share of a group's validation pictures that the base answers at least."""

HALVES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"development": (0, 1, 2), "reporting": (3, 4, 5)}
)
"""The two halves of the groups, and the seeds of the bases that each is asked of."""


@functools.cache
def work() -> Work:
    """The dual encoder's rows without augmented copies, as requests and vectors see them."""
    return shipped.emoji_dual_encoder(copies=1)


@functools.cache
def training() -> Work:
    """The same with the augmented copies that bases and oracles are trained on."""
    return shipped.emoji_dual_encoder()


@functools.cache
def pool() -> Mapping[str, tuple[str, ...]]:
    """The concepts of every group, in the order of their labels.

    Only concepts that both held-out vendors draw are asked for: the others cannot be measured.
    """
    concepts = emoji_grid.concepts()
    drawn = [set(emoji_grid.load(split)["subject"][:]) for split in ("train", "validation", "test")]
    of: dict[str, list[str]] = {}
    for subject, subgroup in zip(concepts["subject"][:], concepts["subgroup"][:], strict=True):
        if all(subject in subjects for subjects in drawn):
            of.setdefault(subgroup, []).append(subject)
    return {name: _cut(name, every) for name, every in of.items() if len(every) >= FEWEST}


def _cut(name: str, every: Sequence[str]) -> tuple[str, ...]:
    kept = set(_shuffled(every, f"concepts of {name}")[:MOST])
    return tuple(subject for subject in every if subject in kept)


@functools.cache
def _looked_at() -> frozenset[str]:
    """The groups from whose subgroups the requests of ``expunge demo`` take concepts."""
    asked = {subject for name in demo.GROUPS for subject in emoji_grid.members(name)}
    concepts = emoji_grid.concepts()
    pairs = zip(concepts["subject"][:], concepts["subgroup"][:], strict=True)
    return frozenset(subgroup for subject, subgroup in pairs if subject in asked)


def half(name: str) -> tuple[str, ...]:
    """The groups of a half, in alphabetical order.

    Choices were made on the requests of ``expunge demo``, so that whatever group is akin to these
    is in the development half.

    Raises:
        ExpungeError: there is no such half.
    """
    if name not in HALVES:
        raise ExpungeError(
            f"The half {name!r} of the groups was asked for; {' or '.join(HALVES)} is expected."
        )
    ranked = sorted(pool(), key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    reporting = {*ranked[1::2]} - _looked_at()
    return tuple(sorted(g for g in ranked if (g in reporting) == (name == "reporting")))


def members(name: str) -> tuple[str, ...]:
    """The concepts of a group of the pool, or of another group of the shipped set.

    Raises:
        ExpungeError: there is no group of that name.
    """
    return pool().get(name) or emoji_grid.members(name)


def requests(names: Sequence[str]) -> tuple[Request, ...]:
    """One request for every group, in this order; it takes its concepts away as a whole.

    Raises:
        ExpungeError: no group, a group is named twice, two share a concept, or all rows are named.
    """
    if not names or len(set(names)) != len(names):
        raise ExpungeError(
            f"The groups {', '.join(names) or 'of nothing'} were given; at least one, each once, "
            "are expected."
        )
    owner: dict[str, str] = {}
    concepts = emoji_grid.concepts()
    subjects = concepts["subject"][:]
    titles = dict(zip(subjects, concepts["concept"][:], strict=True))
    labels = dict(zip(subjects, concepts["label"][:], strict=True))
    for name in names:
        shared = [subject for subject in members(name) if subject in owner]
        if shared:
            raise ExpungeError(
                f"The groups {owner[shared[0]]!r} and {name!r} overlap in {len(shared)} concepts, "
                f"such as {titles[shared[0]]!r}; groups that are forgotten apart must not overlap."
            )
        owner.update(dict.fromkeys(members(name), name))
    asked = {name: members(name) for name in names}
    return tuple(
        Request(name, Rows("subject", its), labels=tuple(labels[subject] for subject in its))
        for name, its in asked.items()
    )


def known(base: nn.Module, names: Iterable[str], run: Run) -> dict[str, float]:
    """The share of every group's validation pictures that a base answers."""
    found = ask(work().recipe.family, base, work().validation, run)
    right = found.query("correct")[0]
    rows = {name: Rows("subject", members(name)).rows(work().validation_table) for name in names}
    return {name: float(right[at].mean()) for name, at in rows.items()}


def checked(shares: Mapping[str, float], names: Sequence[str]) -> None:
    """Make sure that there is something to forget in every named group.

    Raises:
        ExpungeError: the base answers less than :data:`KNOWN` of a group's pictures.
    """
    for name in names:
        if shares[name] < KNOWN:
            raise ExpungeError(
                f"There is nothing to forget in {name!r}: {shares[name]:.0%} of its validation "
                f"pictures are answered, and at least {KNOWN:.0%} are expected. Name a group that "
                "the model knows."
            )


def enough(count: int, groups: Sequence[str], where: str) -> None:
    """Make sure that so many groups can be drawn.

    Raises:
        ExpungeError: there are fewer.
    """
    if not 1 <= count <= len(groups):
        raise ExpungeError(
            f"{count} requests were asked for, and {where} has {len(groups)} groups that can be "
            "asked for; give a number from 1 to that."
        )


def drawn(seed: int, name: str, count: int, shares: Mapping[str, float]) -> tuple[str, ...]:
    """The groups that are asked of the base of a seed: the first ``count`` of one shuffled list,
    so that smaller sets lie inside larger ones.

    Args:
        seed: of the base.
        name: of the half.
        count: T.
        shares: what the base knows of each group.

    Raises:
        ExpungeError: the base knows too few groups.
    """
    asked = [group for group in half(name) if shares[group] >= KNOWN]
    enough(count, asked, f"the {name} half, as the base of seed {seed} knows it,")
    return tuple(_shuffled(asked, f"{name} groups of seed {seed}")[:count])


def orders(names: Sequence[str], seed: int, count: int) -> tuple[tuple[str, ...], ...]:
    """So many orders of the groups, no two alike; the first is the one in which they are given.

    Raises:
        ExpungeError: there are fewer.
    """
    if not 1 <= count <= math.factorial(len(names)):
        raise ExpungeError(
            f"{count} orders of {len(names)} requests were asked for; a number from 1 to "
            f"{math.factorial(len(names))} is expected."
        )
    found, number = {tuple(names): None}, 0
    while len(found) < count:
        number += 1
        found[tuple(_shuffled(names, f"order {number} of seed {seed}"))] = None
    return tuple(found)


def _shuffled(values: Sequence[str], name: str) -> list[str]:
    found = list(values)
    random.Random(name).shuffle(found)
    return found


@functools.cache
def reserve(askable: tuple[str, ...]) -> Tensor:
    """Positions (n,) of the training rows that methods may take as retained.

    No row of a group that may ever be asked for is among them. So a vector made with a retain term
    depends on no other request, on no order and on no later knowledge, and is made once.
    """
    table = work().table
    asked = [Rows("subject", members(name)).rows(table) for name in askable]
    return all_but(len(table), torch.cat(asked))


@functools.cache
def panels(names: tuple[str, ...]) -> tuple[Panel, Panel]:
    """The panels of the requests, of the validation and of the test vendor."""
    asked = requests(names)
    return (
        Panel.of(work().validation, work().validation_table, asked),
        Panel.of(work().test, work().test_table, asked),
    )


def shown(names: Sequence[str], style: str) -> Samples:
    """The training pictures of the groups in one style."""
    table, rows = work().table, Rows("subject", tuple(s for n in names for s in members(n)))
    styles = table["style"][:]
    at = [i for i in rows.rows(table).tolist() if styles[i] == style]
    return work().data[Role.TRAIN].select(torch.tensor(at))


def deployment(base: nn.Module, rows: Tensor) -> Deployment:
    """The base in use before any request, with these training rows alone."""
    table = work().table
    assert isinstance(table, Dataset)
    train = work().data[Role.TRAIN].select(rows)
    held: Named = table.select(rows.tolist())
    return Deployment(base, work().recipe.family, train, held, Sum())
