"""Progress as it happens: server-sent events (WHATWG, HTML, Server-sent events) of one request.

Every event tells all that is known of the moment, so that who missed some has lost nothing: after
`Last-Event-ID` the next is sent as soon as it is another. A stream ends with the event `end` when
nothing will follow; one that ends without it is to be opened again.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import anyio.to_thread

from expunge.ledger.following import Progress, progress
from expunge.service.api.told import Following
from expunge.service.state import Service

MEDIA_TYPE = "text/event-stream"
AGAIN = 2000
"""Milliseconds after which a browser opens a stream again that was cut."""

Allowed = Callable[[], Awaitable[bool]]
"""Whether whoever listens still may."""


async def events(
    here: Service, request: str, last: str | None, allowed: Allowed
) -> AsyncIterator[bytes]:
    """The progress of a request from now on, as it goes over the wire.

    Args:
        here: the service.
        request: id of one that exists.
        last: id of the event that was received last.
        allowed: asked as often as a sign of life is due, also while progress comes.
    """
    settings, sent = here.settings, last
    end = time.monotonic() + settings.stream_time
    alive = known = time.monotonic()
    yield f"retry: {AGAIN}\n\n".encode()
    while time.monotonic() < end and not here.stopping.is_set():
        if time.monotonic() - known >= settings.heartbeat:
            if not await allowed():
                return
            known = time.monotonic()
        found = await anyio.to_thread.run_sync(progress, here.ledger, request, limiter=here.reading)
        if found.mark != sent:
            yield written("progress", found)
            sent, alive = found.mark, time.monotonic()
        if found.over:
            yield written("end", found)
            return
        if time.monotonic() - alive >= settings.heartbeat:
            yield b": alive\n\n"
            alive = time.monotonic()
        await anyio.sleep(settings.poll)


def written(event: str, found: Progress) -> bytes:
    """One event."""
    data = Following.of(found).model_dump_json()
    return f"event: {event}\nid: {found.mark}\ndata: {data}\n\n".encode()
