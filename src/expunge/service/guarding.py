"""What is checked and said around every route: the host that is asked for, how large a body may be,
and the headers that keep a browser from doing what a page did not ask for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from expunge.service.problems import answer

STATIC = "/static/"
"""Where the files of the package are; nothing else may be kept by a browser or a proxy."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
HOST = re.compile(r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^:@/\[\]\s]+))(:[0-9]*)?")
YEAR = "max-age=31536000"
KEPT = "public, max-age=3600"


@dataclass(frozen=True)
class Headed:
    """An application whose every answer tells browsers what they may do with it.

    Args:
        app: what answers.
        secure: whether browsers reach it over TLS.
    """

    app: ASGIApp
    secure: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with these headers."""

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self.secure:
                    headers.setdefault("Strict-Transport-Security", YEAR)
                kept = scope["path"].startswith(STATIC) and message["status"] == 200
                headers["Cache-Control"] = KEPT if kept else "no-store"
            await send(message)

        await self.app(scope, receive, headed if scope["type"] == "http" else send)


@dataclass(frozen=True)
class Guarded:
    """An application that is asked nothing which no route should have to look at.

    Args:
        app: what is guarded.
        hosts: names that it may be asked by.
        limit: bytes of a body.
        uploads: endings of paths whose bodies have a limit of their own.
    """

    app: ASGIApp
    hosts: frozenset[str]
    limit: int
    uploads: Mapping[str, int]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what passes, and refuse the rest."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        own = (limit for ending, limit in self.uploads.items() if scope["path"].endswith(ending))
        limit, request = next(own, self.limit), Request(scope)
        refused = self._refusal(request, limit)
        if refused is None:
            await self.app(scope, _bounded(receive, limit), send)
            return
        status, sentence = refused
        # what is left of a body that was not read must not be taken for the next request
        await answer(request, status, sentence, {"Connection": "close"})(scope, receive, send)

    def _refusal(self, request: Request, limit: int) -> tuple[int, str] | None:
        """The status and the sentence, where something is refused."""
        if host_of(request.headers) not in self.hosts:
            return 400, (
                "The service is not asked by this name; its setting trusted_hosts lists those."
            )
        if b"%00" in request.scope["query_string"] or "\0" in request.scope["path"]:
            return 400, "The address holds a zero character, which no name has."
        declared = request.headers.get("content-length", "0")
        if not (declared.isascii() and declared.isdecimal()):
            return 400, "The header Content-Length is no number."
        return (413, too_large(limit)) if int(declared) > limit else None


def host_of(headers: Headers) -> str:
    """The name that is asked for, without its port; "" of what is none (RFC 9110, section 7.2)."""
    found = HOST.fullmatch(headers.get("host", "").lower())
    return (found["address"] or found["name"]) if found else ""


def too_large(limit: int) -> str:
    """What is said of a body beyond its limit."""
    return f"The body is larger than {limit:,} bytes, which is what the service takes here."


def _bounded(receive: Receive, limit: int) -> Receive:
    """Messages up to a number of bytes, whatever length was declared, or none."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, too_large(limit), {"Connection": "close"})
        return message

    return bounded
