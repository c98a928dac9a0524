"""The page of a model's history: versions, what was kept, what stays forgotten, two compared."""

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from expunge.ledger.tables import RequestState
from expunge.service.access import Actor, Permission, allowed
from expunge.service.api import models as api
from expunge.service.api.asked import LARGEST_NUMBER, ModelName
from expunge.service.pages.models import rules
from expunge.service.pages.rendering import UNUSABLE, refusal, render, tabs
from expunge.service.state import Here, Service

router = APIRouter(include_in_schema=False)
Seeing = Annotated[Actor, Depends(allowed(Permission.SEE_HISTORY))]
From = Annotated[int | None, Query(alias="from", ge=0, le=LARGEST_NUMBER)]
To = Annotated[int | None, Query(ge=0, le=LARGEST_NUMBER)]


@router.get("/models/{model}/history")
async def page(
    request: Request,
    here: Here,
    actor: Seeing,
    model: ModelName,
    from_: From = None,
    to: To = None,
) -> Response:
    """Every version, and two side by side where they are named."""
    compared = await _compared(here, actor, model, from_, to)

    def whole() -> Response:
        found = api.show_history(here, actor, model)
        last = found.versions[-1].version
        policy = rules(here, actor, model)
        floor = None if policy is None else policy.gate.kept * found.versions[0].retained
        return render(
            request,
            "history.html",
            actor,
            shown=tabs(actor, model),
            history=found,
            current=last,
            numbers={own.request: own.number for own in found.requests},
            withdrawn=[
                own.request for own in found.requests if own.state == RequestState.WITHDRAWN.value
            ],
            floor=floor if found.direction == "higher" else None,
            may_certificate=actor.may(Permission.SEE_CERTIFICATE, model),
            from_=max(0, last - 1) if from_ is None else from_,
            to=last if to is None else to,
            **compared,
        )

    return await anyio.to_thread.run_sync(whole)


@router.get("/models/{model}/difference")
async def difference(
    request: Request,
    here: Here,
    actor: Seeing,
    model: ModelName,
    from_: From = None,
    to: To = None,
) -> Response:
    """Two versions side by side, as a part of the page."""
    compared = await _compared(here, actor, model, from_, to)
    found = await anyio.to_thread.run_sync(api.show_history, here, actor, model)
    numbers = {own.request: own.number for own in found.requests}
    return render(request, "difference.html", actor, numbers=numbers, **compared)


async def _compared(
    here: Service, actor: Actor, model: str, one: int | None, other: int | None
) -> dict[str, Any]:
    told: dict[str, Any] = {"difference": None, "refused": None}
    if one is None or other is None:
        return told
    try:
        told["difference"] = await api.compare_versions(here, actor, model, one, other)
    except UNUSABLE as error:
        told["refused"] = refusal(error)[1]
    return told
