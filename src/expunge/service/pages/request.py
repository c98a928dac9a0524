"""The page of a request: its steps as they go, verdicts, figures, and what can be done."""

from collections.abc import Mapping
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from expunge.ledger import asking
from expunge.ledger.accounts import now
from expunge.ledger.chain import stamp
from expunge.ledger.following import Progress, progress
from expunge.ledger.looking import OPEN
from expunge.ledger.queueing import INTERRUPTED, QUEUED, REVOKE, SERVE
from expunge.ledger.revoking import REVOCABLE
from expunge.ledger.tables import RequestState
from expunge.service.access import Actor, Permission, allowed
from expunge.service.api import requests as api
from expunge.service.api.asked import Reason, RequestId
from expunge.service.api.told import RequestDetail
from expunge.service.pages.models import detail
from expunge.service.pages.rendering import (
    EVERY,
    UNUSABLE,
    over,
    partial,
    refusal,
    render,
    together,
)
from expunge.service.pages.steps import Shown, shown
from expunge.service.state import Here, Service

router = APIRouter(include_in_schema=False)
Seeing = Annotated[Actor, Depends(allowed(Permission.SEE_REQUEST, on="request"))]
Reading = Annotated[Actor, Depends(allowed(Permission.SEE_ANSWERS, on="request"))]
Wording = Annotated[Actor, Depends(allowed(Permission.SEE_SCOPE, on="request"))]
Revoking = Annotated[Actor, Depends(allowed(Permission.REVOKE, on="request"))]
Cancelling = Annotated[Actor, Depends(allowed(Permission.CANCEL, on="request"))]
Retrying = Annotated[Actor, Depends(allowed(Permission.RETRY, on="request"))]
Text = Annotated[str, Form()]
SHOWN = 20
"""Rows of which the answers are shown."""
WHY = "It was interrupted, and is tried again; `expunge ledger status` says why."

PLAIN: Mapping[str, str] = {
    "received": "It waits for a worker.",
    "running": "It is being worked on.",
    "guarded": "A guard refuses what is to be forgotten; the weights follow.",
    "published": "The current version answers it.",
    "answered": "Nothing had to be done.",
    "refused": "The gate let no version pass. Each that was tried is listed below.",
    "failed": "An error ended it; its account, with its words, says which.",
    "withdrawn": "It was taken back.",
}
VERBS: Mapping[str, dict[str, Any]] = {
    "revocation": {
        "title": "Take it back",
        "button": "Revoke the request",
        "means": "The next version is made without it, bit for bit as if it had never been asked.",
        "reasoned": True,
        "needs": Permission.REVOKE,
        "at": "/requests/{0}/revocation",
    },
    "cancellation": {
        "title": "Cancel it",
        "button": "Cancel",
        "means": "It is withdrawn before anything is done for it.",
        "reasoned": True,
        "needs": Permission.CANCEL,
        "at": "/requests/{0}/cancellation",
    },
    "retry": {
        "title": "Try it again",
        "button": "Try again",
        "means": "It waits again as it was asked, after the policy, the data or the method were "
        "mended.",
        "reasoned": False,
        "needs": Permission.RETRY,
        "at": "/requests/{0}/retry",
    },
    "stay": {
        "title": "Do not take it back",
        "button": "Cancel the revocation",
        "means": "The revocation waits, and can be cancelled until it is begun.",
        "reasoned": True,
        "needs": Permission.CANCEL,
        "at": "/runs/{1}/cancellation",
    },
}
"""What can be done, in the order of the page; ``at`` is filled with the request and the run."""


@router.get("/requests/{request_id}")
def page(request: Request, here: Here, actor: Seeing, request_id: RequestId) -> Response:
    """All that is told of one request; its words and the answers when they are asked for."""
    return _whole(request, here, actor, request_id)


@router.get("/requests/{request_id}/live")
def live(
    request: Request,
    here: Here,
    actor: Seeing,
    request_id: RequestId,
    seen: str = "",
    was: str = "",
) -> Response:
    """What changed since the page was loaded, or nothing."""
    at = progress(here.ledger, request_id)
    if seen == at.mark:
        return Response(status_code=204)
    found = _found(here, actor, request_id, at)
    said = f"Request {found['own'].number}: {at.state}."
    if found["runs"]:
        said += f" {found['runs'][0].now}."
    parts = [
        render(request, "request_live.html", actor, **found),
        render(request, "said.html", actor, said=said),
    ]
    if was != at.state:
        told = {**found, "oob": True, "answers": None, "answers_refused": None}
        parts += [
            render(request, name, actor, **told)
            for name in ("request_do.html", "request_compared.html")
        ]
    return together(*parts)


@router.post("/requests/{request_id}/answers")
async def read_answers(
    request: Request, here: Here, actor: Reading, request_id: RequestId
) -> Response:
    """The answers on its rows before and now; that they were read is put down."""
    told: dict[str, Any] = {"answers": None, "answers_refused": None}
    status = 200
    try:
        told["answers"] = await api.show_answers(here, actor, request_id, SHOWN)
    except UNUSABLE as error:
        status, told["answers_refused"] = refusal(error)
    if partial(request):
        return render(request, "request_answers.html", actor, address=_address(request_id), **told)

    def whole() -> Response:
        return _whole(request, here, actor, request_id, status, **told)

    return await anyio.to_thread.run_sync(whole)


@router.post("/requests/{request_id}/scope")
def read_scope(request: Request, here: Here, actor: Wording, request_id: RequestId) -> Response:
    """What it names, and the account of what was found; that it was read is put down."""
    words = api.show_scope(here, actor, request_id)
    told: dict[str, Any] = {"scope": words.scope or "There is none.", "account": words.account}
    if partial(request):
        return render(request, "request_scope.html", actor, address=_address(request_id), **told)
    return _whole(request, here, actor, request_id, **told)


@router.post("/requests/{request_id}/revocation")
def revoke(
    request: Request, here: Here, actor: Revoking, request_id: RequestId, reason: Text = ""
) -> Response:
    """Ask for the version without it."""
    try:
        api.revoke_request(here, actor, request_id, Reason(reason=reason))
    except UNUSABLE as error:
        return _refused(request, here, actor, request_id, error)
    return over(_address(request_id))


@router.post("/requests/{request_id}/cancellation")
def cancel(
    request: Request, here: Here, actor: Cancelling, request_id: RequestId, reason: Text = ""
) -> Response:
    """Withdraw it before anything is done for it."""
    try:
        api.cancel_request(here, actor, request_id, Reason(reason=reason))
    except UNUSABLE as error:
        return _refused(request, here, actor, request_id, error)
    return over(_address(request_id))


@router.post("/requests/{request_id}/retry")
def retry(request: Request, here: Here, actor: Retrying, request_id: RequestId) -> Response:
    """Let it wait again."""
    try:
        api.retry_request(here, actor, request_id)
    except UNUSABLE as error:
        return _refused(request, here, actor, request_id, error)
    return over(_address(request_id))


def _whole(
    request: Request,
    here: Service,
    actor: Actor,
    request_id: str,
    status: int = 200,
    **more: Any,
) -> Response:
    found = _found(here, actor, request_id, progress(here.ledger, request_id))
    own = found["own"]
    known = {
        "answers": None,
        "answers_refused": None,
        "scope": None,
        "account": None,
        "refused": None,
        "may_scope": actor.may(Permission.SEE_SCOPE, own.model),
    }
    return render(request, "request.html", actor, status, **{**found, **known, **more})


def _refused(
    request: Request, here: Service, actor: Actor, request_id: str, error: Exception
) -> Response:
    """The page again, with the sentence why something could not be done."""
    status, sentence = refusal(error)
    return _whole(request, here, actor, request_id, status, refused=sentence)


def _found(here: Service, actor: Actor, request_id: str, at: Progress) -> dict[str, Any]:
    """What the page shows of a request."""
    own = api.show_request(here, actor, request_id)
    open_ = own.state in OPEN
    certificate = None
    if own.versions and actor.may(Permission.SEE_CERTIFICATE, own.model):
        number = own.versions[0].rpartition("@")[2].partition(" ")[0]
        certificate = f"/models/{own.model}/versions/{number}/certificate"
    return {
        "address": _address(request_id),
        "own": own,
        "mark": at.mark,
        "watched": not at.over,
        "every": EVERY,
        "plain": PLAIN[own.state],
        "open": open_,
        "overdue": open_ and own.deadline is not None and own.deadline < stamp(now()),
        "runs": _runs(own, at),
        "actions": _possible(actor, own, at),
        "certificate": certificate,
        "oob": False,
        "may_answers": own.figures is not None and actor.may(Permission.SEE_ANSWERS, own.model),
        "model": detail(here, actor, own.model),
    }


def _runs(own: RequestDetail, at: Progress) -> list[Shown]:
    """The runs about a request; one that nothing was put down for yet waits for its run."""
    if not at.steps and own.state == RequestState.RECEIVED.value:
        return [shown("", SERVE, QUEUED, "queued", own.updated, None)]
    return [
        shown(
            step.run,
            step.kind,
            step.state,
            step.step,
            step.since,
            step.share,
            WHY if step.state == INTERRUPTED else None,
        )
        for step in at.steps
    ]


def _possible(actor: Actor, request: RequestDetail, at: Progress) -> list[dict[str, Any]]:
    """What may be done with a request in its state; the ledger has the last word."""
    guarded = request.state == RequestState.GUARDED.value and request.reason is not None
    begun = any(step.state != QUEUED for step in at.steps)
    revocation = next((step for step in at.steps if step.kind == REVOKE), None)
    can = {
        "revocation": request.state in REVOCABLE and not request.sealed and revocation is None,
        "cancellation": request.state == RequestState.RECEIVED.value and not begun,
        "retry": (request.state in asking.ENDED or guarded) and not at.steps,
        "stay": revocation is not None and revocation.state == QUEUED,
    }
    found = []
    for verb, fits in can.items():
        told = VERBS[verb]
        if fits and actor.may(told["needs"], request.model):
            run = "" if revocation is None else revocation.run
            found.append({"verb": verb, **told, "address": told["at"].format(request.request, run)})
    return found


def _address(request_id: str) -> str:
    return f"/requests/{request_id}"
