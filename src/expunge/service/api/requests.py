"""Removal requests: submitted, watched, taken back, and what they changed."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from expunge.errors import ConflictError
from expunge.ledger import asking, looking
from expunge.ledger.following import model_of
from expunge.ledger.listing import requests_page
from expunge.ledger.showing_answers import answers
from expunge.ledger.submitting import Submission, submit
from expunge.ledger.tables import RequestState
from expunge.service import live, paging
from expunge.service.access import (
    Actor,
    Permission,
    allowed,
    doing,
    put_down,
    renewed,
    sees_request,
)
from expunge.service.api import asked, told
from expunge.service.api.asked import ModelName, RequestId
from expunge.service.api.models import scope_of
from expunge.service.computing import computed
from expunge.service.paging import Cursor, Limit, Page
from expunge.service.problems import Problem
from expunge.service.state import Here, Service

router = APIRouter(prefix="/v1", tags=["requests"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern="^[\x21-\x7e]+$",
        description="The same key of the same account is the same request, however often it is "
        "sent; with another body it is refused (409).",
        examples=["ticket-4711"],
    ),
]


@router.post(
    "/models/{model}/requests",
    status_code=201,
    responses={200: {"model": told.Receipt, "description": "The same was asked before."}},
)
def submit_request(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SUBMIT))],
    model: ModelName,
    given: asked.Submission,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> told.Receipt:
    """Ask for a removal; a worker answers it. It is taken in milliseconds."""
    # two accounts that choose the same key do not see one another's requests
    key = None if idempotency_key is None else f"{actor.account} {idempotency_key}"
    submission = Submission(
        scope_of(given),
        given.method,
        given.parameters,
        given.aggregation,
        given.strength,
        given.deadline,
        given.priority,
        key,
        given.metadata,
        given.known,
    )
    with doing(here, actor, Permission.SUBMIT, model=model) as act:
        receipt = submit(here.ledger, model, submission)
        act.target = receipt.request
        if not receipt.same:
            raise ConflictError(
                "This Idempotency-Key was sent before with another body; send what it was sent "
                "with, or another key."
            )
    response.status_code = 200 if receipt.repeated else 201
    response.headers["Location"] = f"/v1/requests/{receipt.request}"
    return told.Receipt(
        request=receipt.request,
        model=model,
        number=receipt.number,
        state=receipt.state,  # type: ignore[arg-type]
        repeated=receipt.repeated,
    )


@router.get("/models/{model}/requests")
def list_requests(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_REQUEST))],
    model: ModelName,
    state: Annotated[RequestState | None, Query(description="Those in this state alone.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[told.RequestSummary]:
    """Requests for a model, the newest first; a requester's own alone."""
    own = None if actor.may(Permission.SEE_ALL_REQUESTS, model) else actor.account
    found = requests_page(
        here.ledger,
        model,
        state=None if state is None else state.value,
        asked_by=own,
        after=paging.read(cursor, int),
        limit=limit,
    )
    return paging.page_of(found, lambda row: told.RequestSummary(**vars(row)))


@router.get("/requests/{request_id}")
def show_request(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_REQUEST, on="request"))],
    request_id: RequestId,
) -> told.RequestDetail:
    """All that is known of a request, without what it names."""
    return told.RequestDetail.of(looking.show(here.ledger, request_id))


@router.get("/requests/{request_id}/scope")
def show_scope(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_SCOPE, on="request"))],
    request_id: RequestId,
) -> told.RequestWords:
    """What a request names, and the account of what was searched and done. Each reading is put
    down among the actions."""
    found = looking.show(here.ledger, request_id)
    put_down(here, actor, Permission.SEE_SCOPE, request_id, model=found["model"])
    return told.RequestWords(request=request_id, scope=found["scope"], account=found["account"])


@router.get("/requests/{request_id}/answers")
async def show_answers(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_ANSWERS, on="request"))],
    request_id: RequestId,
    limit: Annotated[int, Query(ge=1, le=100, description="Rows.")] = 20,
) -> told.Answers:
    """What the model answered on the forgotten rows before the request, and what it answers now.
    They show the forgotten: each reading is put down among the actions."""
    model = await _looked(model_of, here.ledger, request_id)
    await _looked(put_down, here, actor, Permission.SEE_ANSWERS, request_id, model=model)

    def found() -> told.Answers:
        standing = here.models.standing(model)
        return told.Answers(**answers(here.ledger, standing, request_id, limit).to_json())

    return await computed(here, found)


@router.get(
    "/requests/{request_id}/events",
    response_class=StreamingResponse,
    responses={200: {"description": "Events `progress` and, last, `end`.", "content": {
        live.MEDIA_TYPE: {"schema": {"type": "string"}}}}},
)  # fmt: skip
async def follow_request(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_REQUEST, on="request"))],
    request_id: RequestId,
    last_event_id: Annotated[
        str | None, Header(max_length=64, description="Id of the event received last.")
    ] = None,
) -> StreamingResponse:
    """Progress as server-sent events; the data of each is a `Following`. Where `end` did not come,
    the stream is to be opened again."""
    if here.listeners >= here.settings.streams:
        raise Problem(503, "Too many listen already; ask for the request itself instead.")
    model = await _looked(model_of, here.ledger, request_id)
    events = _counted(here, actor, model, request_id, last_event_id)
    return StreamingResponse(events, media_type=live.MEDIA_TYPE)


@router.post("/requests/{request_id}/revocation", status_code=202)
def revoke_request(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.REVOKE, on="request"))],
    request_id: RequestId,
    given: asked.Reason,
) -> told.Queued:
    """Queue the revocation of a published request: the model becomes what it would be without."""
    model = model_of(here.ledger, request_id)
    with doing(here, actor, Permission.REVOKE, request_id, model=model) as act:
        return told.Queued(run=asking.revoke(here.ledger, request_id, act.role, given.reason))


@router.post("/requests/{request_id}/cancellation")
def cancel_request(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.CANCEL, on="request"))],
    request_id: RequestId,
    given: asked.Reason,
) -> told.Cancelled:
    """Withdraw a request before anything was done for it."""
    model = model_of(here.ledger, request_id)
    with doing(here, actor, Permission.CANCEL, request_id, model=model) as act:
        what = asking.cancel(here.ledger, request_id, act.role, given.reason)
    return told.Cancelled(cancelled=request_id, what=what)


@router.post("/requests/{request_id}/retry", status_code=202)
def retry_request(
    here: Here,
    actor: Annotated[Actor, Depends(allowed(Permission.RETRY, on="request"))],
    request_id: RequestId,
) -> told.RequestDetail:
    """Have a request that was refused or failed tried again, as it was asked."""
    model = model_of(here.ledger, request_id)
    with doing(here, actor, Permission.RETRY, request_id, model=model):
        asking.retry(here.ledger, request_id)
    return told.RequestDetail.of(looking.show(here.ledger, request_id))


async def _looked(function: Any, *given: Any, **more: Any) -> Any:
    """What the ledger says at once, asked in a thread."""
    return await anyio.to_thread.run_sync(lambda: function(*given, **more))


async def _counted(
    here: Service, actor: Actor, model: str, request: str, last: str | None
) -> AsyncIterator[bytes]:
    """The events of a request, for one listener of a bounded number."""

    async def still() -> bool:
        now: Actor | None = await _looked(renewed, here, actor)
        return now is not None and await _looked(sees_request, here, now, model, request)

    here.listeners += 1
    try:
        async for event in live.events(here, request, last, still):
            yield event
    finally:
        here.listeners -= 1
