"""Problem details (RFC 9457): what every error of the service is sent as.

What was given wrongly is told in the sentence of its :class:`ExpungeError`. Of a fault of the
program nothing is told but a number, under which the log has its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from expunge.errors import (
    ConflictError,
    ExpungeError,
    ForbiddenError,
    IntegrityError,
    UnknownError,
)
from expunge.ledger.refusals import UnavailableError

MEDIA_TYPE = "application/problem+json"
NOWHERE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Kind:
    """A kind of problem: its type is ``/problems/<slug>``."""

    status: int
    slug: str
    title: str
    meaning: str


KINDS: Mapping[int, Kind] = {
    kind.status: kind
    for kind in (
        Kind(400, "malformed", "Malformed", "The request cannot be read: it is no HTTP or JSON "
             "that the service understands, or it asks for a host that is not this one."),
        Kind(401, "not-signed-in", "Not signed in", "Send an API key (Authorization: Bearer ...), "
             "or sign in. A key that expired or was revoked counts as none."),
        Kind(403, "forbidden", "Forbidden", "Whoever asks has no role that allows this, or the "
             "policy of the model does not grant it to that role."),
        Kind(404, "unknown", "Unknown", "What was named is not there, or may not be seen by "
             "whoever asks."),
        Kind(405, "no-such-method", "No such method", "The address takes other methods; the "
             "header Allow lists them."),
        Kind(406, "not-acceptable", "Not acceptable", "The answer has no form that was accepted."),
        Kind(409, "conflict", "Conflict", "What was asked for does not go with the state that "
             "something is in; the sentence says which."),
        Kind(413, "too-large", "Too large", "The body is larger than the service takes here."),
        Kind(415, "other-media-type", "Other media type", "The body is of another type than the "
             "service takes here; the sentence names those that it does."),
        Kind(422, "unusable", "Unusable", "The request can be read, and what it asks for cannot "
             "be used; the sentence says why, and `errors` where."),
        Kind(429, "too-many-tries", "Too many tries", "Wait as long as the header Retry-After "
             "says, in seconds."),
        Kind(500, "fault", "Fault", "The program is at fault, or what the ledger keeps is damaged. "
             "The log has the place under the number in `instance`."),
        Kind(503, "unavailable", "Unavailable", "A store is locked, full, stopped or out of "
             "reach, or too much is asked at once; the same may succeed later."),
    )
}  # fmt: skip
BY_SLUG = {kind.slug: kind for kind in KINDS.values()}

BY_CLASS: tuple[tuple[type[ExpungeError], int], ...] = (
    (UnknownError, 404),
    (ConflictError, 409),
    (ForbiddenError, 403),
    (UnavailableError, 503),
    (IntegrityError, 500),
    (ExpungeError, 422),
)
"""The status of an error of the rooms below; the first class that fits."""
OUT_OF_REACH = "The ledger cannot be asked now; the same may succeed later."
"""What whoever is not known is told of a database that is locked, full or away."""
RETRY = "5"
"""Seconds after which what was out of reach may be asked again."""


class Problem(Exception):  # noqa: N818  (the word of the RFC)
    """A problem of the service's own: who asks, how often, how much."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] = NOWHERE) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def body(
    status: int, detail: str | None, instance: str | None, errors: Sequence[object] = ()
) -> dict[str, Any]:
    """The members of a problem.

    Args:
        status: of HTTP.
        detail: one sentence for people.
        instance: what the log has this under.
        errors: where the request cannot be used, and why.
    """
    kind = KINDS.get(status)
    found: dict[str, Any] = {
        "type": f"/problems/{kind.slug}" if kind else "about:blank",
        "title": kind.title if kind else HTTPStatus(status).phrase,
        "status": status,
    }
    if detail:
        found["detail"] = detail
    if instance:
        found["instance"] = instance
    if errors:
        found["errors"] = list(errors)
    return found


def answer(
    request: Request,
    status: int,
    detail: str | None,
    headers: Mapping[str, str] = NOWHERE,
    errors: Sequence[object] = (),
) -> Response:
    """A problem as a response; a browser that asks for a page gets a page."""
    from expunge.service.pages.rendering import error_page, is_page  # it raises problems, too

    number = getattr(request.state, "number", None)
    instance = f"urn:uuid:{number}" if number else None
    sent = {**({"Retry-After": RETRY} if status == 503 else {}), **headers}
    told = body(status, detail, instance, errors)
    if is_page(request.url.path):
        return error_page(request, status, told["title"], detail or "", sent)
    return JSONResponse(told, status, headers=sent, media_type=MEDIA_TYPE)


def of_error(error: ExpungeError) -> tuple[int, str]:
    """The status and the sentence of an error."""
    status = next(status for kind, status in BY_CLASS if isinstance(error, kind))
    if status == 500:
        return status, (
            "Something that the ledger keeps is not as it was written; `expunge ledger verify` "
            "names it."
        )
    return status, " ".join(str(error).split())


def install(app: FastAPI) -> None:
    """Answer every error of an application with a problem."""

    @app.exception_handler(Problem)
    def own(request: Request, problem: Problem) -> Response:
        return answer(request, problem.status, problem.detail, problem.headers)

    @app.exception_handler(ExpungeError)
    def told(request: Request, error: ExpungeError) -> Response:
        request.state.error = type(error).__name__
        status, sentence = of_error(error)
        if status != 500 and getattr(request.state, "account", None) is None:
            # before anybody is known only the ledger is asked; the sentence names where it is
            status, sentence = 503, OUT_OF_REACH
        return answer(request, status, sentence)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        found = [  # never the input: it may name people
            {"where": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()
        ]
        unread = any(e["type"] == "json_invalid" for e in error.errors())
        first = f"{found[0]['where']}: {found[0]['message']}."
        sentence = "The body is no JSON." if unread else first
        return answer(request, 400 if unread else 422, sentence, errors=found)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code < 400:  # a redirection, which is no problem
            return Response(status_code=error.status_code, headers=error.headers)
        detail = error.detail if error.status_code in (400, 413) else None
        if error.status_code == 404:
            detail = "There is nothing at this address; /openapi.json lists what there is."
        return answer(request, error.status_code, detail, error.headers or NOWHERE)
