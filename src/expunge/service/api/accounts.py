"""Accounts over HTTP: one's own, those of others, their keys, and what was done by whom."""

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from expunge.errors import ConflictError, ForbiddenError, UnknownError
from expunge.ledger import accounts
from expunge.ledger.accounts import EVERY, Account, Key, Role
from expunge.ledger.actions import Outcome
from expunge.ledger.listing import ActionRow, actions_page
from expunge.ledger.registering import NAME
from expunge.service import paging
from expunge.service.access import (
    THROTTLE,
    Actor,
    Permission,
    TooManyTriesError,
    allowed,
    doing,
)
from expunge.service.passwords import check_password
from expunge.service.state import Here, Service

router = APIRouter(prefix="/v1", tags=["accounts"])

ACCOUNT, KEY = "^c[0-9a-f]{12}$", "^k[0-9a-f]{12}$"
"""How the ids of accounts and keys look."""
AccountId = Annotated[
    str, Path(pattern=ACCOUNT, description="Id of an account.", examples=["c3f1d20a9b7e"])
]
KeyId = Annotated[str, Path(pattern=KEY, description="Id of a key.", examples=["k0123456789ab"])]

Oneself = Annotated[Actor, Depends(allowed(Permission.ONESELF, on="everything"))]
Manager = Annotated[Actor, Depends(allowed(Permission.MANAGE_ACCOUNTS, on="everything"))]
Auditor = Annotated[Actor, Depends(allowed(Permission.SEE_ACTIONS, on="somewhere"))]

ModelRole = Literal["requester", "operator", "auditor"]
SENT: Mapping[Role, ModelRole] = {
    Role.REQUESTER: "requester",
    Role.OPERATOR: "operator",
    Role.AUDITOR: "auditor",
}
"""Roles as they are sent: an admin's is the account's own, and none of a model."""
GrantedModel = Annotated[str, StringConstraints(pattern=rf"^({NAME.pattern}|\*)$")]
Grants = Annotated[
    dict[GrantedModel, ModelRole],
    Field(description="Roles by the name of a model; `*` stands for every model."),
]
Time = Annotated[str, Field(description="ISO 8601 with a time zone.", max_length=64)]


class Given(BaseModel):
    """What is sent; nothing else may be in it."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Me(BaseModel):
    """Who asks."""

    account: str = Field(examples=["c3f1d20a9b7e"])
    name: str = Field(examples=["maria"])
    admin: bool
    grants: Grants = Field(examples=[{"emoji": "operator"}])
    by: Literal["key", "session"] = Field(description="What the request was signed in by.")
    permissions: dict[str, list[Permission]] = Field(
        description="What is allowed, by the name of a model; `*` stands for the whole ledger."
    )


class AccountShown(BaseModel):
    """An account, without anything secret."""

    id: str
    name: str
    admin: bool
    disabled: bool
    password: bool = Field(description="Whether it can sign in with one; else by keys alone.")
    created_at: str
    grants: Grants


class Accounts(BaseModel):
    """Every account, by name."""

    items: list[AccountShown]


class NewAccount(Given):
    """An account to be made."""

    name: str = Field(max_length=256, examples=["maria"])
    password: SecretStr | None = Field(
        default=None, description="None: keys alone open it.", max_length=4096
    )
    admin: bool = False
    grants: Grants = Field(default_factory=dict, examples=[{"emoji": "requester"}])


class AccountChange(Given):
    """What is to be another way; what is left out stays as it is."""

    admin: bool | None = None
    disabled: bool | None = Field(default=None, description="Ends its sessions; its keys rest.")
    password: SecretStr | None = Field(default=None, max_length=4096)
    grants: dict[GrantedModel, ModelRole | None] = Field(
        default_factory=dict,
        description="Roles by the name of a model or `*`; null takes one away.",
        examples=[{"emoji": "auditor", "digits": None}],
    )


class NewPassword(Given):
    """Another password for oneself."""

    current: SecretStr = Field(max_length=4096)
    password: SecretStr = Field(max_length=4096)


class NewKey(Given):
    """A key to be made."""

    label: str = Field(max_length=256, description="What it is for.", examples=["nightly job"])
    expires_at: Time | None = Field(default=None, examples=["2030-01-01T00:00:00+00:00"])


class KeyShown(BaseModel):
    """A key, without its secret."""

    id: str
    account: str
    label: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    alive: bool


class Keys(BaseModel):
    """Keys of one account, oldest first."""

    items: list[KeyShown]


class IssuedKey(KeyShown):
    """A key that was made just now."""

    key: str = Field(
        description="To be sent as `Authorization: Bearer <key>`; nobody can read it again.",
        examples=["expunge_k0123456789ab_..."],
    )


class ActionShown(BaseModel):
    """What was done by whom."""

    id: str
    at: str
    actor: str | None = Field(description="Id of the account; null: not known, or the terminal.")
    name: str | None = Field(description="Of the account, if it is there still.")
    role: str
    action: str
    model: str | None
    target: str | None
    outcome: Outcome


@router.get("/me")
def me(actor: Oneself) -> Me:
    """Who asks, and what they may do."""
    models = [EVERY, *(model for model in actor.grants if model != EVERY)]
    return Me(
        account=actor.account,
        name=actor.name,
        admin=actor.admin,
        grants=_roles(actor.grants),
        by="key" if actor.session is None else "session",
        permissions={
            model: [p for p in Permission if actor.may(p, None if model == EVERY else model)]
            for model in models
        },
    )


@router.post("/me/password", status_code=204)
def change_own_password(here: Here, actor: Oneself, given: NewPassword) -> None:
    """Give oneself another password; every other session of the account ends."""
    with doing(here, actor, Permission.ONESELF, actor.account, what="change password"):
        own = accounts.account(here.ledger, actor.account)
        _check_current(here, own, given.current.get_secret_value())
        hashed = _hashed(here, given.password, own.name)
        keep = None if actor.session is None else actor.session.id
        accounts.set_password(here.ledger, own.id, hashed, keep)


@router.get("/me/keys")
def own_keys(here: Here, actor: Oneself) -> Keys:
    """One's own keys."""
    return _keys(here, actor.account)


@router.post("/me/keys", status_code=201)
def issue_own_key(here: Here, actor: Oneself, given: NewKey) -> IssuedKey:
    """Make a key for oneself, from a browser's session: a key makes no further keys."""
    with doing(here, actor, Permission.ONESELF, what="make key") as act:
        if actor.session is None:
            raise ForbiddenError(
                "A key makes no further keys for its own account; sign in with a browser, or ask "
                "an admin."
            )
        issued = _issued(here, actor.account, given)
        act.target = issued.id
        return issued


@router.get("/accounts")
def list_accounts(here: Here, actor: Manager) -> Accounts:
    """Every account, by name."""
    return Accounts(items=[_shown(own) for own in accounts.accounts(here.ledger)])


@router.post("/accounts", status_code=201)
def create_account(
    here: Here, actor: Manager, given: NewAccount, response: Response
) -> AccountShown:
    """Make an account."""
    with doing(here, actor, Permission.MANAGE_ACCOUNTS, what="create account") as act:
        name = accounts.checked_name(given.name)
        hashed = _hashed(here, given.password, name)
        grants = {model: Role(role) for model, role in given.grants.items()}
        made = accounts.create(here.ledger, name, hashed, given.admin, grants)
        act.target = made
    response.headers["Location"] = f"/v1/accounts/{made}"
    return _shown(accounts.account(here.ledger, made))


@router.get("/accounts/{account_id}")
def show_account(here: Here, actor: Manager, account_id: AccountId) -> AccountShown:
    """One account."""
    return _shown(accounts.account(here.ledger, account_id))


@router.patch("/accounts/{account_id}")
def change_account(
    here: Here, actor: Manager, account_id: AccountId, given: AccountChange
) -> AccountShown:
    """Change an account: all that is asked for, or nothing."""
    with doing(here, actor, Permission.MANAGE_ACCOUNTS, what="change account") as act:
        own = accounts.account(here.ledger, account_id)
        act.target = own.id
        changed = accounts.change(
            here.ledger,
            own.id,
            admin=given.admin,
            disabled=given.disabled,
            password_hash=_hashed(here, given.password, own.name),
            grants={m: None if r is None else Role(r) for m, r in given.grants.items()},
        )
    return _shown(changed)


@router.get("/accounts/{account_id}/keys")
def list_keys(here: Here, actor: Manager, account_id: AccountId) -> Keys:
    """The keys of an account."""
    return _keys(here, accounts.account(here.ledger, account_id).id)


@router.post("/accounts/{account_id}/keys", status_code=201)
def issue_key(here: Here, actor: Manager, account_id: AccountId, given: NewKey) -> IssuedKey:
    """Make a key for an account."""
    with doing(here, actor, Permission.MANAGE_ACCOUNTS, what="make key") as act:
        own = accounts.account(here.ledger, account_id)
        issued = _issued(here, own.id, given)
        act.target = issued.id
        return issued


@router.delete("/keys/{key_id}", status_code=204)
def revoke_key(here: Here, actor: Oneself, key_id: KeyId) -> None:
    """Revoke a key: one's own, or, as an admin, any. It opens nothing from now on."""
    manages = actor.may(Permission.MANAGE_ACCOUNTS)
    unknown = UnknownError(f"There is no key {key_id!r} that this account may revoke.")
    permission = Permission.MANAGE_ACCOUNTS if manages else Permission.ONESELF
    with doing(here, actor, permission, what="revoke key") as act:
        try:
            key = accounts.key(here.ledger, key_id)
        except UnknownError:
            raise unknown from None
        act.target = key.id
        if key.account != actor.account and not manages:
            raise unknown
        accounts.revoke_key(here.ledger, key.id)


@router.get("/actions")
def list_actions(
    here: Here,
    actor: Auditor,
    model: Annotated[
        str | None, Query(pattern=f"^{NAME.pattern}$", description="Of this model only.")
    ] = None,
    account: Annotated[
        str | None, Query(pattern=ACCOUNT, description="By this account only.")
    ] = None,
    cursor: paging.Cursor = None,
    limit: paging.Limit = 50,
) -> paging.Page[ActionShown]:
    """What was done by whom, newest first, as far as one may see it."""
    models = None if model is None else [model]
    if not actor.may(Permission.SEE_ACTIONS):
        models = [m for m in models or actor.grants if actor.may(Permission.SEE_ACTIONS, m)]
    after = paging.read(cursor, str, str)
    page = actions_page(here.ledger, actor=account, models=models, after=after, limit=limit)
    names = {own.id: own.name for own in accounts.accounts(here.ledger)}
    return paging.page_of(page, lambda row: _action(row, names))


def _action(row: ActionRow, names: Mapping[str, str]) -> ActionShown:
    return ActionShown(
        id=row.action_id,
        at=row.at,
        actor=row.actor,
        name=names.get(row.actor or ""),
        role=row.role,
        action=row.action,
        model=row.model,
        target=row.target,
        outcome=Outcome(row.outcome),
    )


def _shown(own: Account) -> AccountShown:
    return AccountShown(
        id=own.id,
        name=own.name,
        admin=own.admin,
        disabled=own.disabled,
        password=own.password_hash is not None,
        created_at=own.created_at,
        grants=_roles(own.grants),
    )


def _key(own: Key) -> KeyShown:
    return KeyShown(
        id=own.id,
        account=own.account,
        label=own.label,
        created_at=own.created_at,
        expires_at=own.expires_at,
        revoked_at=own.revoked_at,
        alive=own.alive,
    )


def _keys(here: Service, account: str) -> Keys:
    return Keys(items=[_key(own) for own in accounts.keys(here.ledger, account)])


def _issued(here: Service, account: str, given: NewKey) -> IssuedKey:
    made, whole = accounts.issue_key(
        here.ledger, account, given.label, here.passwords.hashed, given.expires_at
    )
    shown = _key(accounts.key(here.ledger, made))
    return IssuedKey(**shown.model_dump(), key=whole)


def _hashed(here: Service, given: SecretStr | None, name: str) -> str | None:
    if given is None:
        return None
    password = given.get_secret_value()
    check_password(password, name)
    return here.passwords.hashed(password)


def _check_current(here: Service, own: Account, password: str) -> None:
    """Refuse who does not know the password that is to be changed: a browser left open."""
    if own.password_hash is None:
        raise ConflictError("The account has no password; an admin can give it one.")
    tries = {("name", own.name): THROTTLE.name}
    wait = accounts.attempt(here.ledger, tries, THROTTLE)
    if wait > 0:
        raise TooManyTriesError(wait)
    if not here.passwords.verify(own.password_hash, password):
        raise ForbiddenError("The current password is another one.")
    accounts.succeeded(here.ledger, own.name)


def _roles(grants: Mapping[str, Role]) -> dict[str, ModelRole]:
    return {model: SENT[role] for model, role in grants.items()}
