"""Rendering: templates into pages, escaped, and strict about what they are not given."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pydantic import ValidationError

from expunge import __version__
from expunge.errors import ExpungeError
from expunge.service.access import Actor, Permission
from expunge.service.problems import Problem, of_error

MISSING = "–"
EVERY = 2
"""Seconds between two looks of a page at what is under way; it stops when that has ended."""
HTMX = {
    "allowEval": False,
    "includeIndicatorStyles": False,  # the page's own rules have them; a style element is forbidden
    "selfRequestsOnly": True,
    "historyCacheSize": 0,  # nothing of a page is to stay in the browser's storage
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {"code": "[45]..", "swap": False, "error": True},
    ],
}
PLACES = (
    ("Models", "/", Permission.ONESELF),
    ("Accounts", "/accounts", Permission.MANAGE_ACCOUNTS),
    ("Actions", "/actions", Permission.SEE_ACTIONS),
)
OF_A_MODEL = (
    ("Overview", Permission.SEE_MODEL),
    ("New request", Permission.SUBMIT),
    ("History", Permission.SEE_HISTORY),
    ("Certificate", Permission.SEE_CERTIFICATE),
    ("Seal", Permission.SEE_HISTORY),
)
MACHINES = ("/v1", "/healthz", "/readyz", "/metrics", "/openapi.json", "/problems", "/static")
"""Where the service answers programs; everything else is for people."""
UNUSABLE = (ExpungeError, Problem, ValidationError)
"""What is said on the page of a form that could not be used."""
NONE: Mapping[str, str] = MappingProxyType({})


@cache
def pages() -> Environment:
    """The environment of every page."""
    made = Environment(
        loader=PackageLoader("expunge.service", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        figure=figure,
        percent=percent,
        moment=moment,
        size=size,
        short=short,
        told=told,
        coded=coded,
    )
    made.globals.update(static=static, htmx=json.dumps(HTMX), release=__version__)
    return made


def render(
    request: Request,
    template: str,
    actor: Actor | None,
    status: int = 200,
    headers: Mapping[str, str] = NONE,
    **context: Any,
) -> HTMLResponse:
    """A page, or a part of one.

    Args:
        request: of the browser.
        template: its file.
        actor: whoever is signed in; None for nobody.
        status: of HTTP.
        headers: of the answer.
        context: what the template shows.
    """
    known = {
        "actor": actor,
        "csrf": csrf_of(actor),
        "here": request.url.path,
        "places": [] if actor is None else places(actor),
        **context,
    }
    text = pages().get_template(template).render(known)
    return HTMLResponse(text, status, headers=dict(headers))


def csrf_of(actor: Actor | None) -> str:
    """The token of a session, that each form of it carries."""
    return "" if actor is None or actor.session is None else actor.session.csrf


def places(actor: Actor) -> list[tuple[str, str]]:
    """Pages of no single model that somebody may open."""
    return [(name, path) for name, path, permission in PLACES if actor.may_somewhere(permission)]


def tabs(actor: Actor, model: str) -> list[str]:
    """Pages of a model that somebody may open."""
    return [name for name, permission in OF_A_MODEL if actor.may(permission, model)]


def is_page(path: str) -> bool:
    """Whether people look at what stands at an address."""
    return not any(path == one or path.startswith(f"{one}/") for one in MACHINES)


def error_page(
    request: Request, status: int, title: str, detail: str, headers: Mapping[str, str] = NONE
) -> Response:
    """What a browser is shown in the place of a problem.

    Whoever is not signed in is sent to sign in; a part of a page that was asked for sends the whole
    page there.
    """
    if status == 401:
        if partial(request):
            return Response(status_code=401, headers={"HX-Redirect": "/sign-in"})
        back = request.url.path if request.method == "GET" else "/"
        return RedirectResponse(f"/sign-in?next={quote(back, safe='')}", 303)
    return render(request, "error.html", None, status, headers=headers, title=title, detail=detail)


def partial(request: Request) -> bool:
    """Whether a part of a page is asked for, to be put into it."""
    return request.headers.get("hx-request") == "true"


def refusal(error: Exception) -> tuple[int, str]:
    """The status and the sentence of a form that could not be used."""
    if isinstance(error, ExpungeError):
        return of_error(error)
    if isinstance(error, Problem):
        return error.status, error.detail
    assert isinstance(error, ValidationError)
    first = error.errors(include_input=False, include_url=False)[0]
    where = str(first["loc"][0]) if first["loc"] else "form"
    return 422, f"The field {where!r} cannot be used: {first['msg']}."


def together(*parts: Response) -> Response:
    """Several parts of a page as one answer; each takes the place that it names."""
    return HTMLResponse(b"".join(bytes(part.body) for part in parts))


def over(path: str) -> RedirectResponse:
    """The answer to a form: the page that shows what came of it."""
    return RedirectResponse(path, 303)


def figure(value: float | None) -> str:
    """Three decimals."""
    return MISSING if value is None else f"{value:.3f}".replace("-", "−")


def percent(value: float | None) -> str:
    """A share, in per cent."""
    return MISSING if value is None else f"{value:.0%}"


def short(value: float | None) -> str:
    """Four significant digits."""
    return MISSING if value is None else f"{value:.4g}"


def moment(at: str | None) -> str:
    """A time of the ledger, to the minute."""
    if at is None:
        return MISSING
    found = datetime.fromisoformat(at)
    whole = found if found.tzinfo else found.replace(tzinfo=UTC)
    return whole.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def size(count: int) -> str:
    """Bytes, in a unit that people read."""
    value, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


def told(value: Any) -> str:
    """A JSON value as people read it."""
    if value is None or (isinstance(value, list | Mapping) and not value):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(told(one) for one in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {told(one)}" for name, one in value.items())
    return str(value)


def coded(text: str) -> Markup:
    """A sentence with what stands between backticks set as code; everything is escaped."""
    parts = [escape(part) for part in text.split("`")]
    whole = (Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))
    return Markup("").join(whole)


@cache
def static(name: str) -> str:
    """The address of a file of the package, another one for other content."""
    content = files("expunge.service").joinpath("static", name).read_bytes()
    return f"/static/{name}?v={sha256(content).hexdigest()[:12]}"
