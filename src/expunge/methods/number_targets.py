"""Targets of numbers, before a method learns from them: finite, and not one number for all rows."""

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.families.abilities import HasNumbers, able
from expunge.problem import Missing, Problem
from expunge.recipe import Role

ROLES = (Role.FORGET, Role.RETAIN)

PASS, SMALLEST = 16, 16
"""Batches of a pass over the retain set that presets aim at, and rows of a batch at least: in eight
passes of a teacher as many steps as the paper's takes on its larger set, about a hundred."""

READ_AT_ONCE = 1024
"""Rows that are read at a time."""


def unusable(problem: Problem) -> tuple[Missing, ...]:
    """What keeps a method from learning from the targets of forget and retain rows: nothing, or a
    missing field, a value that is not finite, or a column without variance.

    A forget set whose targets are all alike is none of these.
    """
    for role in ROLES:
        if role in problem.data and "target" not in problem.data[role].fields:
            given = ", ".join(sorted(problem.data[role].fields)) or "none"
            return (
                Missing(
                    f"learns from the field 'target'; the {role.value} set has {given}",
                    f"The method learns from numbers in the field 'target', and the {role.value} "
                    f"set has the fields {given}; name a column of numbers as `columns.target`.",
                ),
            )
    parts = {role: _targets(problem, role) for role in ROLES if role in problem.data}
    for role, targets in parts.items():
        if not bool(targets.isfinite().all()):
            row = int((~targets.isfinite()).any(1).nonzero()[0])
            name = problem.data[role].ids[row]
            return (
                Missing(
                    f"learns from finite targets; that of the {role.value} row {name!r} is not",
                    f"The target of the {role.value} row {name!r} is {targets[row].tolist()}; "
                    "finite numbers are expected. Mend or drop such rows.",
                ),
            )
    together = torch.cat(list(parts.values()))
    constant = [place for place, column in enumerate(together.T) if column.min() == column.max()]
    if not constant:
        return ()
    place = constant[0]
    which = "" if together.shape[1] == 1 else f" in the target column {place}"
    return (
        Missing(
            "learns from targets that differ; all are the same",
            f"All {len(together)} forget and retain rows have the target "
            f"{float(together[0, place]):g}{which}, which has no variance: whatever the model is "
            "taught in its place, there is nothing to forget. Name another column as the target.",
        ),
    )


def batch_for(problem: Problem, most: int) -> int:
    """Rows of a batch of the presets, ``most`` at most."""
    return min(most, max(SMALLEST, len(problem.data[Role.RETAIN]) // PASS))


def check(problem: Problem) -> None:
    """Raise an error for targets that a method cannot learn from.

    Raises:
        ExpungeError: as :func:`unusable` says.
    """
    for lack in unusable(problem):
        raise ExpungeError(lack.sentence)


def _targets(problem: Problem, role: Role) -> Tensor:
    """The targets (n, D) of a role; no other field is read."""
    family, samples = able(problem.family, HasNumbers), problem.data[role]
    found = []
    for start in range(0, len(samples), READ_AT_ONCE):
        rows = torch.arange(start, min(start + READ_AT_ONCE, len(samples)))
        found.append(family.targets(samples.batch(rows, {"target"})))
    return torch.cat(found) if found else torch.empty(0, 1)
