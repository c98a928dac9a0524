"""The page on which a removal is asked for, with what it would remove and which methods fit."""

import json
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from expunge.errors import ExpungeError
from expunge.service.access import Actor, Permission, allowed
from expunge.service.api import models as api
from expunge.service.api.asked import ModelName, Scope, Submission
from expunge.service.api.requests import submit_request
from expunge.service.pages.models import detail
from expunge.service.pages.rendering import (
    UNUSABLE,
    over,
    partial,
    refusal,
    render,
    tabs,
    together,
)
from expunge.service.state import Here, Service

router = APIRouter(include_in_schema=False)
Submitting = Annotated[Actor, Depends(allowed(Permission.SUBMIT))]
Previewing = Annotated[Actor, Depends(allowed(Permission.PREVIEW))]
Text = Annotated[str, Form()]
USUAL = ("subject", "id", "label", "concept")
"""Columns that are offered first."""


@dataclass(frozen=True)
class Asked:
    """The form as it was filled in: text, until it is checked."""

    column: Text = ""
    values: Text = ""
    name: Text = ""
    method: Text = ""
    parameters: Text = ""
    anchor: Text = ""
    text: Text = ""
    deadline: Text = ""
    priority: Text = "0"
    known: Text = ""
    key: Text = ""

    def scope(self) -> Scope:
        """What is to be forgotten.

        Raises:
            ExpungeError: no value is named.
            ValidationError: a field cannot be used.
        """
        return Scope(**self._scope())

    def submission(self) -> Submission:
        """All that is asked for; raises as :meth:`scope`."""
        return Submission(
            **self._scope(),
            method=self.method or None,
            parameters=_object(self.parameters),
            deadline=f"{self.deadline}+00:00" if self.deadline else None,
            priority=self.priority.strip() or 0,  # type: ignore[arg-type]
            known=bool(self.known),
        )

    def _scope(self) -> dict[str, Any]:
        lines = [line.strip() for line in self.values.splitlines() if line.strip()]
        if not lines:
            raise ExpungeError("No value is named; write at least one, each on its line.")
        return {
            "column": self.column,
            "values": lines,
            "name": self.name.strip() or None,
            "anchor": self.anchor.strip() or None,
            "text": self.text.strip() or None,
        }


Filled = Annotated[Asked, Depends()]


@router.get("/models/{model}/request")
def form(request: Request, here: Here, actor: Submitting, model: ModelName) -> Response:
    """An empty form, with a key of its own: sent twice, it is one request."""
    return _page(request, here, actor, model, Asked(key=token_urlsafe(18)))


@router.post("/models/{model}/request/preview")
async def look(
    request: Request, here: Here, actor: Previewing, model: ModelName, asked: Filled
) -> Response:
    """What it would remove, and the methods that fit; nothing is asked for."""
    told: dict[str, Any] = {"preview": None, "preview_refused": None, "advice": []}
    try:
        scope = asked.scope()
        told["preview"] = await api.preview_request(here, actor, model, scope)
        told["advice"] = (await api.advise_method(here, actor, model, scope)).methods
    except UNUSABLE as error:
        told["preview_refused"] = refusal(error)[1]
    if not partial(request):

        def whole() -> Response:
            return _page(request, here, actor, model, asked, **told)

        return await anyio.to_thread.run_sync(whole)
    return together(
        render(request, "preview.html", actor, **told),
        render(request, "advice.html", actor, asked=asked, oob=True, **told),
    )


@router.post("/models/{model}/request")
def ask(
    request: Request, here: Here, actor: Submitting, model: ModelName, asked: Filled
) -> Response:
    """Take the request, and go on to its page."""
    try:
        receipt = submit_request(
            here, actor, model, asked.submission(), Response(), asked.key or None
        )
    except UNUSABLE as error:
        status, sentence = refusal(error)
        return _page(request, here, actor, model, asked, status, refused=sentence)
    return over(f"/requests/{receipt.request}")


def _page(
    request: Request,
    here: Service,
    actor: Actor,
    model: str,
    asked: Asked,
    status: int = 200,
    **more: Any,
) -> Response:
    columns = [column.name for column in api.list_columns(here, actor, model).columns]
    known = detail(here, actor, model)
    empty: dict[str, Any] = {
        "refused": None,
        "preview": None,
        "preview_refused": None,
        "advice": [],
        "oob": False,
    }
    return render(
        request,
        "new_request.html",
        actor,
        status,
        shown=tabs(actor, model),
        model=model,
        version=None if known is None else known.version,
        columns=[*(c for c in USUAL if c in columns), *(c for c in columns if c not in USUAL)],
        policy=None if known is None else known.policy,
        asked=asked,
        more=bool(asked.deadline or asked.anchor or asked.text or asked.parameters or asked.known),
        **{**empty, **more},
    )


def _object(text: str) -> dict[str, Any]:
    """The parameters of a method.

    Raises:
        ExpungeError: the text is no JSON object.
    """
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ExpungeError(
            'The parameters cannot be read; a JSON object is expected, such as {"epochs": 5}.'
        )
    return found
