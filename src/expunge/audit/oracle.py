"""The oracle: the model that the recipe makes without the rows of all requests."""

from collections.abc import Sequence

from torch import nn

from expunge.changes.kinds import Replacement
from expunge.deployment import Deployment
from expunge.methods.protocol import unlearn
from expunge.methods.retrain import Retrain
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request, resolve
from expunge.run import Run


def retrained(deployment: Deployment, requests: Sequence[Request], run: Run) -> nn.Module:
    """Retrain from the deployment's recipe, its own seed and all; the deployment stays as it is.

    Raises:
        ExpungeError: the deployment has no recipe, or the requests leave no row.
    """
    *earlier, last = requests
    rows = resolve(last, deployment.table, earlier)
    problem = Problem(
        deployment.base,
        deployment.family,
        last,
        {Role.RETAIN: deployment.train.select(rows.retain)},
        deployment.history,
        recipe=deployment.recipe,
    )
    [new] = unlearn(Retrain(), problem, run).changes
    assert isinstance(new, Replacement)
    return new.applied_to(deployment.base)
