"""The oracle of a run file: its recipe run again without the rows of all requests."""

from torch import nn

from expunge.changes.kinds import Replacement
from expunge.cli.run_file import Loaded
from expunge.methods.retrain import Retrain
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import resolve
from expunge.run import Run


def retrained(loaded: Loaded, run: Run) -> nn.Module | None:
    """The retrained model; None where the run file gives no recipe."""
    deployment = loaded.deployment
    if deployment.recipe is None:
        return None
    *earlier, last = loaded.requests
    rows = resolve(last, deployment.table, earlier)
    data = {Role.RETAIN: deployment.train.select(rows.retain)}
    problem = Problem(
        deployment.base, deployment.family, last, data, deployment.history, recipe=deployment.recipe
    )
    [new] = Retrain().unlearn(problem, Retrain().prepare(problem, run), run).changes
    assert isinstance(new, Replacement)
    return new.applied_to(deployment.base)
