"""The pages of the models: all of them, and one with its requests."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from expunge.audit.audit_page import STATES
from expunge.changes.deletion import DeletionState
from expunge.errors import ExpungeError, UnknownError
from expunge.ledger.looking import OPEN
from expunge.ledger.policy import Policy
from expunge.ledger.tables import RequestState
from expunge.service.access import Actor, Permission, allowed
from expunge.service.api import models as api
from expunge.service.api.accounts import Oneself
from expunge.service.api.asked import ModelName
from expunge.service.api.requests import list_requests
from expunge.service.api.runs import list_runs
from expunge.service.api.told import ModelDetail, ModelSummary
from expunge.service.pages.rendering import render, tabs
from expunge.service.pages.steps import shown
from expunge.service.state import Here, Service

router = APIRouter(include_in_schema=False)
Seeing = Annotated[Actor, Depends(allowed(Permission.SEE_MODEL))]


@router.get("/")
def models(request: Request, here: Here, actor: Oneself) -> Response:
    """Every model that whoever asks may see."""
    return render(
        request,
        "models.html",
        actor,
        models=api.list_models(here, actor).models,
        open_states=OPEN,
        may=actor.may,
        permission=Permission,
    )


@router.get("/models/{model}")
def model(
    request: Request,
    here: Here,
    actor: Seeing,
    model: ModelName,
    state: str = "",
    cursor: str | None = None,
) -> Response:
    """One model: where it stands, and what was asked of it."""
    whole = detail(here, actor, model)
    summary = whole or _summary(here, actor, model)
    chosen = RequestState(state) if state in list(RequestState) else None
    page = list_requests(here, actor, model, chosen, cursor)
    runs = [run for run in list_runs(here, actor).runs if run.model == model]
    return render(
        request,
        "model.html",
        actor,
        shown=tabs(actor, model),
        model=summary,
        meaning=meaning(summary.deletion_state),
        runs=[
            (run, shown(run.run, run.kind, run.state, run.step, run.since, run.share))
            for run in runs
        ],
        requests=page.items,
        next=page.next,
        states=list(RequestState),
        chosen=chosen,
        policy=None if whole is None else whole.policy,
    )


def detail(here: Service, actor: Actor, model: str) -> ModelDetail | None:
    """A model with its policy and figures; None where they cannot be read."""
    try:
        return api.show_model(here, actor, model)
    except (ExpungeError, ValueError):  # ValueError: a policy with a key of another version
        return None


def rules(here: Service, actor: Actor, model: str) -> Policy | None:
    """The policy of a model; None where it cannot be read, which the model's page says."""
    found = detail(here, actor, model)
    return None if found is None else found.policy


def _summary(here: Service, actor: Actor, model: str) -> ModelSummary:
    """What is known of a model whose policy or figures cannot be read.

    Raises:
        UnknownError: there is no such model.
    """
    found = next((m for m in api.list_models(here, actor).models if m.name == model), None)
    if found is None:
        raise UnknownError(f"There is no model {model!r}.")
    return found


def meaning(state: str | None) -> str:
    """A deletion state in plain words; nothing of a model that nothing was removed from."""
    return "" if state is None else STATES[DeletionState(state)]
