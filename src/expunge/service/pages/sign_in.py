"""The page on which somebody signs in, and the way out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from expunge.service.access import (
    Actor,
    NotSignedInError,
    TooManyTriesError,
    clear_cookie,
    public,
    set_cookie,
    sign_in,
    sign_out,
)
from expunge.service.api.accounts import Oneself
from expunge.service.pages.rendering import is_page, over, render
from expunge.service.state import Here

router = APIRouter(include_in_schema=False)
Visitor = Annotated[Actor | None, Depends(public())]


@router.get("/sign-in")
def form(request: Request, _: Visitor, left: bool = False) -> Response:
    """Ask for a name and a password."""
    back = request.query_params.get("next", "/")
    return render(
        request, "sign_in.html", None, refused=None, left=left, name="", next=own_path(back)
    )


@router.post("/sign-in")
def enter(
    request: Request,
    here: Here,
    _: Visitor,
    name: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next_: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    """Begin a session, and go on to the page that was asked for."""
    try:
        signed = sign_in(here, request, name, password)
    except (NotSignedInError, TooManyTriesError) as error:
        return render(
            request,
            "sign_in.html",
            None,
            error.status,
            {name_: told for name_, told in error.headers.items() if name_ == "Retry-After"},
            refused=error.detail,
            left=False,
            name=name,
            next=own_path(next_),
        )
    answer = over(own_path(next_))
    set_cookie(answer, here, signed.cookie)
    return answer


@router.post("/sign-out")
def leave(here: Here, actor: Oneself) -> Response:
    """End the session."""
    sign_out(here, actor)
    answer = over("/sign-in?left=true")
    clear_cookie(answer, here)
    return answer


def own_path(given: str) -> str:
    """A page of this service to go on to; the first one in the place of any other address."""
    plain = given.isprintable() and given.isascii() and "\\" not in given
    inside = given.startswith("/") and not given.startswith("//")
    return given if plain and inside and is_page(given) and given != "/sign-out" else "/"
