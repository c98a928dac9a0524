"""Logs of the service: one line of JSON for every request, and nothing that names a person.

A line has the template of the route and not its path, no query, no body and no address; of a fault
its kind and the places in the code, since the sentence of an exception may hold what was given.
"""

import logging
import sys
import time
import traceback
import uuid
from dataclasses import dataclass
from typing import Any, TextIO

import structlog
from datasets import disable_progress_bars
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from expunge.service.metrics import Metrics
from expunge.service.problems import answer

UNMATCHED = "(none)"
"""The route of a request that no route answers."""
FRAMES = 12
"""Places of a fault that are put down, the innermost last."""

log: Any = structlog.get_logger("expunge.service")


def configure(stream: TextIO | None = None) -> None:
    """Send the lines of the service and of its server to a stream, standard error by default."""
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(sort_keys=True)],
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = _OneLine()
    for name in ("uvicorn", "uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True  # it has whole paths
    disable_progress_bars()  # a bar is no line of JSON


class _OneLine(logging.Handler):
    """Lines of the server, without the sentences of exceptions."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        told = {} if error is None else places(error)
        event = record.getMessage() if error is None else "server"
        log.log(record.levelno, event, logger=record.name, **told)


def places(error: BaseException) -> dict[str, Any]:
    """The kind of a fault, and where in the code it came from."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return {
        "error": type(error).__name__,
        "places": [f"{f.filename.rpartition('site-packages/')[2]}:{f.lineno}" for f in frames],
    }


@dataclass(frozen=True)
class Watched:
    """An application whose requests are counted, numbered and put down.

    Args:
        app: what is watched.
        metrics: where they are counted.
    """

    app: ASGIApp
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a fault becomes a problem that tells nothing but its number."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number = str(uuid.uuid4())
        scope.setdefault("state", {})["number"] = number
        began, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", number.encode()),
                ]
            await send(message)

        fault: dict[str, Any] = {}
        with self.metrics.in_flight():
            try:
                await self.app(scope, receive, sent)
            except Exception as error:  # whatever the program did wrong
                fault = places(error)
                if not status:
                    await answer(Request(scope), 500, None)(scope, receive, sent)
        took = time.perf_counter() - began
        route = template(scope)
        self.metrics.answered(scope["method"], route, status, took)
        line = {
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(took * 1000, 1),
            "request": number,
            "account": scope["state"].get("account"),
        }
        if error_kind := scope["state"].get("error"):
            line["error"] = error_kind
        if fault:
            log.error("fault", **{**line, **fault})
        else:
            log.info("request", **line)


def template(scope: Scope) -> str:
    """The route that answered, with the names of its parameters in the place of their values."""
    return str(getattr(scope.get("route"), "path", None) or UNMATCHED)
