"""The pages of accounts: one's own, those of others, and what was done by whom.

Each form calls the route of the API that does the same.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from expunge.ledger import accounts
from expunge.ledger.accounts import EVERY, Role
from expunge.ledger.looking import status
from expunge.service.access import Actor, Permission
from expunge.service.api import accounts as api
from expunge.service.api.accounts import Auditor, Manager, Oneself
from expunge.service.api.models import list_models
from expunge.service.pages.rendering import UNUSABLE, over, refusal, render
from expunge.service.state import Here, Service

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form()]
ROLES = [role.value for role in Role if role is not Role.ADMIN]


@router.get("/account")
def own(request: Request, here: Here, actor: Oneself) -> Response:
    """One's own account: password and keys."""
    return _own(request, here, actor)


@router.post("/account/password")
def own_password(
    request: Request, here: Here, actor: Oneself, current: Text = "", password: Text = ""
) -> Response:
    """Give oneself another password."""
    try:
        given = api.NewPassword(current=current, password=password)  # type: ignore[arg-type]
        api.change_own_password(here, actor, given)
    except UNUSABLE as error:
        return _own(request, here, actor, *refusal(error))
    return _own(request, here, actor, done="The password was changed; other sessions ended.")


@router.post("/account/keys")
def own_key(request: Request, here: Here, actor: Oneself, label: Text = "") -> Response:
    """Make a key for oneself; it is shown in this answer and never again."""
    try:
        issued = api.issue_own_key(here, actor, api.NewKey(label=label))
    except UNUSABLE as error:
        return _own(request, here, actor, *refusal(error))
    return _own(request, here, actor, secret=_secret(issued, actor.name))


@router.post("/keys/{key_id}/revocation")
def revoke_key(here: Here, actor: Oneself, key_id: str, back: Text = "/account") -> Response:
    """Let a key open nothing any more."""
    api.revoke_key(here, actor, key_id)
    return over("/accounts" if back == "/accounts" else "/account")


@router.get("/accounts")
def all_accounts(request: Request, here: Here, actor: Manager) -> Response:
    """Every account with its roles and keys."""
    return _all(request, here, actor)


@router.post("/accounts")
def add(
    request: Request,
    here: Here,
    actor: Manager,
    name: Text = "",
    password: Text = "",
    role: Text = ROLES[0],
    model: Text = EVERY,
) -> Response:
    """Make an account with one role."""
    admin = role == Role.ADMIN.value
    fields: dict[str, Any] = {
        "name": name,
        "password": password or None,
        "admin": admin,
        "grants": {} if admin else {model: role},
    }
    try:
        api.create_account(here, actor, api.NewAccount(**fields), Response())
    except UNUSABLE as error:
        return _all(request, here, actor, *refusal(error))
    return over("/accounts")


@router.post("/accounts/{account_id}/grant")
def grant(
    request: Request,
    here: Here,
    actor: Manager,
    account_id: str,
    role: Text = "",
    model: Text = EVERY,
) -> Response:
    """Give a role, in the place of the one that is held there."""
    return _changed(request, here, actor, account_id, grants={model: role})


@router.post("/accounts/{account_id}/withdrawal")
def withdraw(
    request: Request, here: Here, actor: Manager, account_id: str, model: Text = EVERY
) -> Response:
    """Take a role away."""
    return _changed(request, here, actor, account_id, grants={model: None})


@router.post("/accounts/{account_id}/password")
def set_password(
    request: Request, here: Here, actor: Manager, account_id: str, password: Text = ""
) -> Response:
    """Give another password."""
    return _changed(request, here, actor, account_id, password=password)


@router.post("/accounts/{account_id}/disabling")
def disable(request: Request, here: Here, actor: Manager, account_id: str) -> Response:
    """Let an account open nothing any more; it stays."""
    return _changed(request, here, actor, account_id, disabled=True)


@router.post("/accounts/{account_id}/enabling")
def enable(request: Request, here: Here, actor: Manager, account_id: str) -> Response:
    """Let a disabled account open what it did."""
    return _changed(request, here, actor, account_id, disabled=False)


@router.post("/accounts/{account_id}/keys")
def make_key(
    request: Request, here: Here, actor: Manager, account_id: str, label: Text = ""
) -> Response:
    """Make a key; it is shown in this answer and never again."""
    try:
        issued = api.issue_key(here, actor, account_id, api.NewKey(label=label))
    except UNUSABLE as error:
        return _all(request, here, actor, *refusal(error))
    name = accounts.account(here.ledger, account_id).name
    return _all(request, here, actor, secret=_secret(issued, name))


@router.get("/actions")
def actions(
    request: Request, here: Here, actor: Auditor, model: str = "", cursor: str | None = None
) -> Response:
    """What was done by whom, newest first: to any model, or to one."""
    models = [
        own.name
        for own in list_models(here, actor).models
        if actor.may(Permission.SEE_ACTIONS, own.name)
    ]
    chosen = model if model in models else None
    page = api.list_actions(here, actor, model=chosen, cursor=cursor)
    return render(
        request,
        "actions.html",
        actor,
        actions=page.items,
        next=page.next,
        models=models,
        chosen=chosen,
    )


def _changed(
    request: Request, here: Service, actor: Actor, account_id: str, **fields: Any
) -> Response:
    try:
        api.change_account(here, actor, account_id, api.AccountChange(**fields))
    except UNUSABLE as error:
        return _all(request, here, actor, *refusal(error))
    return over("/accounts")


def _own(
    request: Request,
    here: Service,
    actor: Actor,
    code: int = 200,
    refused: str | None = None,
    *,
    secret: dict[str, str] | None = None,
    done: str | None = None,
) -> Response:
    return render(
        request,
        "account.html",
        actor,
        code,
        keys=api.own_keys(here, actor).items,
        refused=refused,
        secret=secret,
        done=done,
    )


def _all(
    request: Request,
    here: Service,
    actor: Actor,
    code: int = 200,
    refused: str | None = None,
    *,
    secret: dict[str, str] | None = None,
) -> Response:
    listed = [
        {**own.model_dump(), "issued": api.list_keys(here, actor, own.id).items}
        for own in api.list_accounts(here, actor).items
    ]
    return render(
        request,
        "accounts.html",
        actor,
        code,
        accounts=listed,
        roles=ROLES,
        models=list(status(here.ledger)["models"]),
        refused=refused,
        secret=secret,
    )


def _secret(issued: api.IssuedKey, name: str) -> dict[str, str]:
    return {"key": issued.key, "label": issued.label, "name": name}
