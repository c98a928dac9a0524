"""Runs: what a worker is at or will be at, and the check of everything that is kept."""

from typing import Annotated

from fastapi import APIRouter, Depends

from expunge.ledger import asking, looking
from expunge.ledger.following import model_of_run
from expunge.ledger.verifying import verify
from expunge.service.access import Actor, Permission, allowed, doing
from expunge.service.api import asked, told
from expunge.service.api.asked import RunId
from expunge.service.computing import computed
from expunge.service.state import Here

router = APIRouter(prefix="/v1", tags=["runs"])


@router.get("/runs")
def list_runs(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_RUNS, on="somewhere"))],
) -> told.Runs:
    """Runs that have not ended, of models that the account may see them of."""
    found = looking.status(here.ledger)["runs"]
    seen = [run for run in found if actor.may(Permission.SEE_RUNS, run["model"])]
    return told.Runs(runs=[told.RunSummary.of(run) for run in seen])


@router.post("/runs/{run_id}/cancellation")
def cancel_run(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.CANCEL, on="run"))],
    run_id: RunId,
    given: asked.Reason,
) -> told.Cancelled:
    """Withdraw a revocation or a seal that waits and was not begun."""
    model = model_of_run(here.ledger, run_id)
    with doing(here, actor, Permission.CANCEL, run_id, model=model) as act:
        what = asking.cancel(here.ledger, run_id, act.role, given.reason)
    return told.Cancelled(cancelled=run_id, what=what)


@router.post("/verification")
async def verify_ledger(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.VERIFY, on="everything"))],
    given: asked.Check,
) -> told.Checked:
    """Check the chain, every row, object and certificate, and rebuild what is in use."""

    def checked() -> told.Checked:
        with doing(here, actor, Permission.VERIFY):
            found = verify(here.ledger, rebuild=given.rebuild)
        return told.Checked(**{**vars(found), "faults": list(found.faults)}, holds=found.holds)

    return await computed(here, checked)
