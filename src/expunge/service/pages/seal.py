"""The page of a seal: the plan, its confirmation by the model's name, and what came of it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from expunge.errors import ExpungeError
from expunge.ledger.canonical import canonical, sha256
from expunge.ledger.queueing import SEAL
from expunge.service.access import Actor, Permission, allowed
from expunge.service.api import models as api
from expunge.service.api.asked import ModelName, Reason, RunId, Seal
from expunge.service.api.runs import cancel_run, list_runs
from expunge.service.api.versions import list_versions
from expunge.service.pages.rendering import (
    EVERY,
    UNUSABLE,
    over,
    refusal,
    render,
    tabs,
    together,
)
from expunge.service.pages.steps import shown
from expunge.service.state import Here, Service

router = APIRouter(include_in_schema=False)
Seeing = Annotated[Actor, Depends(allowed(Permission.SEE_HISTORY))]
Sealing = Annotated[Actor, Depends(allowed(Permission.SEAL))]
Cancelling = Annotated[Actor, Depends(allowed(Permission.CANCEL, on="run"))]
Text = Annotated[str, Form()]


@router.get("/models/{model}/seal")
def page(
    request: Request, here: Here, actor: Seeing, model: ModelName, before: str = ""
) -> Response:
    """What a seal would do; nothing is changed."""
    return _page(request, here, actor, model, before)


@router.get("/models/{model}/seal/live")
def live(request: Request, here: Here, actor: Seeing, model: ModelName, seen: str = "") -> Response:
    """What changed since the page was loaded, or nothing."""
    found = _runs(here, actor, model)
    if found["mark"] == seen:
        return Response(status_code=204)
    said = f"Seal: {found['runs'][0].now}." if found["runs"] else "The seal has ended."
    return together(
        render(request, "seal_runs.html", actor, model=model, **found),
        render(request, "said.html", actor, said=said),
    )


@router.post("/models/{model}/seal")
def confirm(
    request: Request,
    here: Here,
    actor: Sealing,
    model: ModelName,
    confirm: Text = "",
    planned: Text = "",
    before: Text = "",
) -> Response:
    """Queue the seal that was planned, where the model's name was typed."""
    try:
        if confirm.strip() != model:
            raise ExpungeError(
                f"The model's name was not typed, so nothing was sealed; type {model} to confirm."
            )
        api.seal_model(here, actor, model, Seal(before=before or None, planned=planned.split()))
    except UNUSABLE as error:
        return _page(request, here, actor, model, before, refusal(error))
    return over(f"/models/{model}/seal")


@router.post("/runs/{run_id}/cancellation")
def cancel(here: Here, actor: Cancelling, run_id: RunId, reason: Text = "") -> Response:
    """Cancel a revocation or a seal that waits."""
    run = next((run for run in list_runs(here, actor).runs if run.run == run_id), None)
    cancel_run(here, actor, run_id, Reason(reason=reason))
    if run is None:
        return over("/")
    return over(f"/models/{run.model}/seal" if run.kind == SEAL else f"/requests/{run.requests[0]}")


def _page(
    request: Request,
    here: Service,
    actor: Actor,
    model: str,
    before: str,
    refused: tuple[int, str] = (200, ""),
) -> Response:
    told: dict[str, Any] = {"plan": None, "nothing": None}
    found = _runs(here, actor, model)
    if not found["runs"]:
        try:
            told["plan"] = api.plan_seal(here, actor, model, before or None)
        except UNUSABLE as error:
            told["nothing"] = refusal(error)[1]
    return render(
        request,
        "seal.html",
        actor,
        refused[0],
        shown=tabs(actor, model),
        model=model,
        version=found["last"].version,
        before=before,
        refused=refused[1],
        **told,
        **found,
    )


def _runs(here: Service, actor: Actor, model: str) -> dict[str, Any]:
    """Seals that have not ended, and the one that made the current version."""
    runs = [
        shown(run.run, run.kind, run.state, run.step, run.since, run.share)
        for run in list_runs(here, actor).runs
        if run.model == model and run.kind == SEAL
    ]
    [last] = list_versions(here, actor, model, limit=1).items
    mark = [[run.run, run.state, run.since] for run in runs], last.version
    return {
        "runs": runs,
        "last": last,
        "watched": bool(runs),
        "every": EVERY,
        "mark": sha256(canonical(mark))[:16],
        "may_seal": actor.may(Permission.SEAL, model),
    }
