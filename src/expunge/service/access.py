"""Who asks, and may they: keys, sessions, roles, and one rule on every route.

A route names its rule as a dependency, ``Depends(allowed(Permission.SUBMIT))`` or
``Depends(public())``; :func:`rule_of` reads it back, so that a test can hold every route against
every role. A browser's session is bound to a token that a form or a header has to repeat (OWASP,
Cross-Site Request Forgery Prevention: the token is an HMAC under the session's own secret), beside
``SameSite=Strict`` and a look at ``Origin`` and ``Sec-Fetch-Site``.
"""

import base64
import hmac
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Annotated, Literal

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from expunge.errors import ExpungeError, ForbiddenError, UnknownError
from expunge.ledger import accounts, actions
from expunge.ledger.accounts import EVERY, Account, Lifetime, Role, Throttle
from expunge.ledger.actions import NOBODY, SUBMIT, Action, Outcome
from expunge.ledger.following import model_of, model_of_run
from expunge.ledger.opening import Ledger
from expunge.ledger.refusals import UnavailableError
from expunge.service.passwords import Passwords, generated
from expunge.service.problems import Problem
from expunge.service.state import Here, Service

COOKIE, SECURE_COOKIE = "expunge", "__Host-expunge"
"""The cookie of a session: on loopback, and over TLS, where a browser binds it to the host."""
CSRF_FIELD, CSRF_HEADER = "csrf", "X-CSRF-Token"
"""Where the token of a session is repeated: a field of a form (urlencoded), or a header."""
FORM = "application/x-www-form-urlencoded"
FORM_LIMIT = 2**20
"""Bytes of a form in which a token is looked for."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, section 9.2.1)."""
THROTTLE = Throttle()
REFUSALS = 20
"""Refused tries of an account that are put down until the throttle has them wait."""
FIRST = "admin"
"""The name of the account that a ledger without accounts is given."""
SIGN_IN, SIGN_OUT = "sign in", "sign out"
"""What these are called among the actions."""
WRONG = "The name or the password is wrong, or the account is disabled."


class Permission(StrEnum):
    """What a route lets its caller do; also the word for it among the actions."""

    ONESELF = "oneself"
    """See and change what belongs to one's own account."""
    SEE_MODEL = "see model"
    PREVIEW = "preview"
    SUBMIT = SUBMIT
    SEE_REQUEST = "see request"
    """See where a request stands: one's own, unless SEE_ALL_REQUESTS goes with it."""
    SEE_ALL_REQUESTS = "see all requests"
    SEE_SCOPE = "see scope"
    """Read what a request names; of one's own requests, as above."""
    SEE_ANSWERS = "see answers"
    SEE_RUNS = "see runs"
    SEE_HISTORY = "see history"
    SEE_CERTIFICATE = "see certificate"
    CHECK_CERTIFICATE = "check certificate"
    IDENTIFY = "identify"
    CANCEL = "cancel"
    REVOKE = "revoke"
    RETRY = "retry"
    SEAL = "seal"
    VERIFY = "verify"
    SEE_ACTIONS = "see actions"
    SEE_METRICS = "see metrics"
    REGISTER = "register"
    MANAGE_ACCOUNTS = "manage accounts"


_REQUESTER = frozenset(
    {
        Permission.ONESELF,
        Permission.SEE_MODEL,
        Permission.PREVIEW,
        Permission.SUBMIT,
        Permission.SEE_REQUEST,
        Permission.SEE_SCOPE,
        Permission.CHECK_CERTIFICATE,
    }
)
_READER = frozenset(
    {
        Permission.ONESELF,
        Permission.SEE_MODEL,
        Permission.SEE_REQUEST,
        Permission.SEE_ALL_REQUESTS,
        Permission.SEE_SCOPE,
        Permission.SEE_ANSWERS,
        Permission.SEE_RUNS,
        Permission.SEE_HISTORY,
        Permission.SEE_CERTIFICATE,
        Permission.CHECK_CERTIFICATE,
        Permission.IDENTIFY,
        Permission.VERIFY,
    }
)
PERMISSIONS: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        Role.REQUESTER: _REQUESTER,
        Role.OPERATOR: _REQUESTER
        | _READER
        | {Permission.CANCEL, Permission.REVOKE, Permission.RETRY, Permission.SEAL},
        Role.AUDITOR: _READER | {Permission.SEE_ACTIONS, Permission.SEE_METRICS},
        Role.ADMIN: frozenset(Permission),
    }
)
"""What each role may."""

WATCHED = frozenset({Permission.SEE_SCOPE, Permission.SEE_ANSWERS, Permission.SEE_CERTIFICATE})
"""What is put down when it is read, and when somebody was kept from reading it."""

On = Literal["model", "request", "run", "everything", "somewhere"]
"""What a rule is asked about: the model of the path (``{model}``), that of the request
(``{request_id}``) or run (``{run_id}``) of the path, the whole ledger, or any model at all."""


class NotSignedInError(Problem):
    """Nobody is known to ask: no key or session, or one that opens nothing."""

    def __init__(self, detail: str) -> None:
        super().__init__(401, detail, {"WWW-Authenticate": "Bearer"})


class CrossSiteError(Problem):
    """A browser's session came without its token, or from a page of another site."""

    def __init__(self, detail: str) -> None:
        super().__init__(403, detail)


class TooManyTriesError(Problem):
    """Too many failures; the next try has to wait."""

    def __init__(self, seconds: float) -> None:
        whole = max(1, math.ceil(seconds))
        detail = f"There were too many failures; try again in {whole} seconds."
        super().__init__(429, detail, {"Retry-After": str(whole)})


@dataclass(frozen=True)
class Session:
    """The session of a browser: its id in the database, and the token that its forms repeat."""

    id: str
    csrf: str = field(repr=False)


@dataclass(frozen=True)
class Actor:
    """Who asks.

    Args:
        account: id of the account.
        name: of the account.
        admin: whether everything is allowed.
        grants: roles by the name of a model, or of every model (``*``).
        session: of a browser; None of a key.
        key: id of an API key; None of a browser.
    """

    account: str
    name: str
    admin: bool
    grants: Mapping[str, Role]
    session: Session | None = None
    key: str | None = None

    def role(self, permission: Permission, model: str | None = None) -> Role | None:
        """The role by which something is allowed for a model (None: for the whole ledger)."""
        if self.admin:
            return Role.ADMIN
        held = (self.grants.get(model) if model is not None else None, self.grants.get(EVERY))
        return next((role for role in held if role and permission in PERMISSIONS[role]), None)

    def may(self, permission: Permission, model: str | None = None) -> bool:
        """Whether something is allowed for a model (None: for the whole ledger)."""
        own = permission is Permission.ONESELF and model is None
        return own or self.role(permission, model) is not None

    def may_somewhere(self, permission: Permission) -> bool:
        """Whether something is allowed for any model."""
        return self.may(permission) or any(
            permission in PERMISSIONS[role] for role in self.grants.values()
        )

    def sees(self, model: str) -> bool:
        """Whether the actor may know that a model is there."""
        return self.may(Permission.SEE_MODEL, model)


@dataclass(frozen=True)
class SignedIn:
    """What a sign-in gives: who it is, and the secret for the cookie."""

    actor: Actor
    cookie: str = field(repr=False)


async def _token(request: Request) -> str | None:
    """The token that a form or a header repeats."""
    given = request.headers.get(CSRF_HEADER)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = request.headers.get("content-length", "")
    if given is not None or request.method in SAFE or kind != FORM:
        return given
    if not length.isdecimal() or int(length) > FORM_LIMIT:
        return None
    field_ = (await request.form()).get(CSRF_FIELD)
    return field_ if isinstance(field_, str) else None


Token = Annotated[str | None, Depends(_token)]


@dataclass(frozen=True)
class Rule:
    """Asks who calls a route and whether they may; a dependency that gives the :class:`Actor`.

    Raises:
        NotSignedInError: nobody is known to ask (401).
        CrossSiteError: a browser's request that its own pages did not make (403).
        UnknownError: the actor may not know that the model, request or run is there (404).
        ForbiddenError: the actor may see it, and not do this (403).
    """

    permission: Permission
    on: On = "model"

    def __call__(self, request: Request, here: Here, token: Token) -> Actor:
        """The actor, who may."""
        actor = _known(here, request, token)
        if actor is None:
            raise NotSignedInError("Nobody is signed in; send an API key, or sign in.")
        request.state.account, request.state.actor = actor.account, actor
        self._check(here, request, actor)
        return actor

    def _check(self, here: Service, request: Request, actor: Actor) -> None:
        watched = request.method not in SAFE or self.permission in WATCHED
        if self.on == "everything":
            allowed_, model, target = actor.may(self.permission), None, None
        elif self.on == "somewhere":
            allowed_, model, target = actor.may_somewhere(self.permission), None, None
        else:
            try:
                model, target = _subject(here, request, actor, self.on)
            except UnknownError:
                if watched:  # of what is there and what is not alike, so that no time tells
                    _put_refusal_down(here, actor, self.permission, None, None)
                raise
            allowed_ = actor.may(self.permission, model)
        if allowed_:
            return
        if watched:
            _put_refusal_down(here, actor, self.permission, model, target)
        where = "" if model is None else f" for {model!r}"
        raise ForbiddenError(
            f"The account {actor.name!r} has no role{where} that allows this ({self.permission}); "
            "an admin can give it one."
        )


@dataclass(frozen=True)
class PublicRule:
    """Asks nobody; a dependency that gives the :class:`Actor` of a browser that is signed in, or
    None. A browser's unsafe request has to come from the service's own pages."""

    def __call__(self, request: Request, here: Here) -> Actor | None:
        """The actor, if a session is known."""
        if request.method not in SAFE:
            _check_origin(here, request)
        actor = _of_cookie(here, request)
        if actor is not None:
            request.state.account = actor.account
        return actor


def allowed(permission: Permission, *, on: On = "model") -> Rule:
    """The rule that a route needs a permission on something."""
    return Rule(permission, on)


def public() -> PublicRule:
    """The rule that a route is open to everybody."""
    return PublicRule()


def rules_of(route: APIRoute) -> list[Rule | PublicRule]:
    """The rules that a route declares; exactly one, of a route as it should be."""
    found: list[Rule | PublicRule] = []
    waiting = list(route.dependant.dependencies)
    while waiting:
        dependant = waiting.pop()
        if isinstance(dependant.call, Rule | PublicRule):
            found.append(dependant.call)
        waiting += dependant.dependencies
    return found


def rule_of(route: APIRoute) -> Rule | PublicRule:
    """The one rule that a route declares.

    Raises:
        ValueError: it declares none, or several.
    """
    found = rules_of(route)
    if len(found) != 1:
        raise ValueError(f"{route.path} declares {len(found)} rules where one was expected")
    return found[0]


def sign_in(here: Service, request: Request, name: str, password: str) -> SignedIn:
    """Begin a session, with an id of its own whatever cookie was sent; the one that was ends.

    Raises:
        TooManyTriesError: of this name, or from this address.
        NotSignedInError: the name or the password is wrong; which of the two is not told, and
            takes the same time.
    """
    counted = ("address", _address(request))
    tries = {("name", accounts.folded(name)): THROTTLE.name, counted: THROTTLE.address}
    wait = accounts.attempt(here.ledger, tries, THROTTLE)
    if wait > 0:
        raise TooManyTriesError(wait)
    found = accounts.by_name(here.ledger, name)
    usable = found is not None and not found.disabled
    stored = found.password_hash if found is not None and usable else None
    secret = None
    if here.passwords.verify(stored, password) and found is not None and stored is not None:
        if here.passwords.outdated(stored):
            found = accounts.rehash(here.ledger, found, here.passwords.hashed(password))
        secret = accounts.open_session(here.ledger, found, lifetime(here))
    if secret is None or found is None:
        who = None if found is None else found.id
        actions.put_down(here.ledger, Action(who, NOBODY, SIGN_IN, Outcome.REFUSED))
        raise NotSignedInError(WRONG)
    accounts.succeeded(here.ledger, accounts.folded(name), [counted])
    if given := request.cookies.get(cookie_name(here)):
        accounts.end_session(here.ledger, accounts.session_id(given))
    actor = _actor(found, session=_session(secret))
    put_down(here, actor, Permission.ONESELF, what=SIGN_IN)
    request.state.account = found.id
    return SignedIn(actor, secret)


def sign_out(here: Service, actor: Actor) -> None:
    """End the session of a browser; a key has none."""
    if actor.session is not None:
        accounts.end_session(here.ledger, actor.session.id)
        put_down(here, actor, Permission.ONESELF, what=SIGN_OUT)


def set_cookie(response: Response, here: Service, secret: str) -> None:
    """Give a browser the cookie of its session."""
    response.set_cookie(
        cookie_name(here),
        secret,
        path="/",
        secure=here.settings.secure,
        httponly=True,
        samesite="strict",
    )


def clear_cookie(response: Response, here: Service) -> None:
    """Have a browser forget its cookie."""
    response.delete_cookie(
        cookie_name(here),
        path="/",
        secure=here.settings.secure,
        httponly=True,
        samesite="strict",
    )


def cookie_name(here: Service) -> str:
    """The name of the cookie: over TLS one that a browser binds to the host."""
    return SECURE_COOKIE if here.settings.secure else COOKIE


def lifetime(here: Service) -> Lifetime:
    """How long sessions last."""
    settings = here.settings
    return Lifetime(
        timedelta(seconds=settings.session_idle), timedelta(seconds=settings.session_longest)
    )


def renewed(here: Service, actor: Actor) -> Actor | None:
    """The actor as the database knows it now; None where the key, session or account is no more.

    For what goes on long after it was allowed, such as a stream.
    """
    if actor.session is not None:
        found = accounts.session(here.ledger, actor.session.id, lifetime(here))
        return None if found is None else _actor(found[1], session=actor.session)
    held = accounts.key_with_account(here.ledger, actor.key or "")
    return None if held is None else _actor(held[1], key=held[0].id)


def sees_request(here: Service, actor: Actor, model: str, request: str) -> bool:
    """Whether the actor may know that a request for a model is there: one's own, or any."""
    return actor.may(Permission.SEE_ALL_REQUESTS, model) or (
        actor.may(Permission.SEE_REQUEST, model)
        and actions.has_asked(here.ledger, actor.account, request)
    )


def put_down(
    here: Service,
    actor: Actor,
    permission: Permission,
    target: str | None = None,
    outcome: Outcome = Outcome.DONE,
    *,
    model: str | None = None,
    what: str | None = None,
) -> None:
    """Write down what somebody did, or is about to read.

    Args:
        here: the service.
        actor: who.
        permission: by which.
        target: id of the request, version, account or key.
        outcome: what became of it.
        model: name of the model.
        what: the word for the action; the permission's by default.
    """
    actions.put_down(here.ledger, _action(actor, permission, outcome, model, target, what))


@dataclass
class Doing:
    """What is being done; the target may be known at the end only."""

    allowed_by: Role | None
    target: str | None = None

    @property
    def role(self) -> str:
        """The role that allows it, which the rule of the route saw to."""
        assert self.allowed_by is not None
        return self.allowed_by.value


@contextmanager
def doing(
    here: Service,
    actor: Actor,
    permission: Permission,
    target: str | None = None,
    *,
    model: str | None = None,
    what: str | None = None,
) -> Iterator[Doing]:
    """Write down what is done inside: as done, or as failed or refused where it raises.

    Arguments are those of :func:`put_down`.
    """
    act = Doing(actor.role(permission, model), target)
    try:
        yield act
    except BaseException as error:
        outcome = Outcome.REFUSED if isinstance(error, ForbiddenError) else Outcome.FAILED
        if not isinstance(error, UnavailableError):  # else nothing can be written now
            with suppress(ExpungeError):  # what went wrong first is what is told
                put_down(here, actor, permission, act.target, outcome, model=model, what=what)
        raise
    put_down(here, actor, permission, act.target, model=model, what=what)


def first_admin(ledger: Ledger, passwords: Passwords) -> str | None:
    """Make the account ``admin`` where a ledger has no account; its password, to be told once.

    Returns None where there are accounts.
    """
    if accounts.accounts(ledger):
        return None
    password = generated()
    made = accounts.create_first(ledger, FIRST, passwords.hashed(password))
    if made is None:
        return None
    own = Action(None, actions.TERMINAL, "create account", Outcome.DONE, target=made)
    actions.put_down(ledger, own)
    return password


def _known(here: Service, request: Request, token: str | None) -> Actor | None:
    """Who asks, by a key, or by a session with its token where the method changes something."""
    if (given := request.headers.get("authorization")) is not None:
        return _of_key(here, request, given)
    actor = _of_cookie(here, request)
    if actor is None or actor.session is None or request.method in SAFE:
        return actor
    _check_origin(here, request)
    if token is None or not hmac.compare_digest(token.encode(), actor.session.csrf.encode()):
        raise CrossSiteError(
            "The token of the session is missing or another session's; load the page again."
        )
    return actor


def _of_key(here: Service, request: Request, given: str) -> Actor:
    """Who a key belongs to: revocation is asked of the database every time."""
    scheme, _, text = given.partition(" ")
    parts = text.strip().split("_", 2)
    if scheme.lower() != "bearer" or len(parts) != 3 or parts[0] != accounts.PREFIX:
        raise NotSignedInError(
            f"A key is sent as 'Authorization: Bearer {accounts.PREFIX}_<id>_<secret>'."
        )
    held = accounts.key_with_account(here.ledger, parts[1])
    if held is not None:
        key, holder = held
        if here.passwords.remembers(key.secret_hash, parts[2]):
            return _actor(holder, key=key.id)
        counted = {("key address", _address(request)): THROTTLE.address}
        wait = accounts.waiting(here.ledger, counted)
        if wait > 0:
            raise TooManyTriesError(wait)
        if here.passwords.verify_remembering(key.secret_hash, parts[2]):
            return _actor(holder, key=key.id)
        accounts.attempt(here.ledger, counted, THROTTLE)
    raise NotSignedInError("The key is not known, was revoked, or is past its time.")


def _of_cookie(here: Service, request: Request) -> Actor | None:
    secret = request.cookies.get(cookie_name(here))
    if not secret:
        return None
    session = _session(secret)
    found = accounts.session(here.ledger, session.id, lifetime(here))
    if found is None:
        return None
    with suppress(UnavailableError):  # a database that only reads now still lets people look
        accounts.touch(here.ledger, found[0])
    return _actor(found[1], session=session)


def _session(secret: str) -> Session:
    data = secret.encode(errors="surrogatepass")
    token = base64.urlsafe_b64encode(hmac.digest(data, b"expunge/csrf/1", "sha256"))
    return Session(accounts.session_id(secret), token.decode())


def _actor(own: Account, *, session: Session | None = None, key: str | None = None) -> Actor:
    return Actor(own.id, own.name, own.admin, own.grants, session, key)


def _check_origin(here: Service, request: Request) -> None:
    """Refuse what a browser says to come from a page of another site."""
    fetched = request.headers.get("sec-fetch-site", "same-origin")
    scheme = "https" if here.settings.secure else request.url.scheme
    own = f"{scheme}://{request.headers.get('host', '')}".lower()
    origin = request.headers.get("origin", own)
    if fetched not in ("same-origin", "none") or origin.lower() != own:
        raise CrossSiteError("The request comes from a page of another site; use the page itself.")


def _subject(here: Service, request: Request, actor: Actor, on: On) -> tuple[str, str | None]:
    """The model that a rule is about, and the id of the request or run.

    Raises:
        UnknownError: it is not there, or the actor may not know that it is; both in one sentence.
    """
    if on == "model":
        model: str = request.path_params["model"]
        if not actor.sees(model):
            raise UnknownError(f"There is no model {model!r} that this account may see.")
        return model, None
    given, of = ("request_id", model_of) if on == "request" else ("run_id", model_of_run)
    target: str = request.path_params[given]
    found = None
    if "\x00" not in target:  # no database looks for it
        with suppress(UnknownError):
            found = of(here.ledger, target)
    if found is None or not _sees(here, actor, on, found, target):
        raise UnknownError(f"There is no {on} {target!r} that this account may see.")
    return found, target


def _sees(here: Service, actor: Actor, on: On, model: str, target: str) -> bool:
    if on == "run":
        return actor.may(Permission.SEE_RUNS, model)
    return sees_request(here, actor, model, target)


def _put_refusal_down(
    here: Service, actor: Actor, permission: Permission, model: str | None, target: str | None
) -> None:
    """Write a refused try down, unless the account had too many of them."""
    tries = {("refused", actor.account): REFUSALS}
    if accounts.attempt(here.ledger, tries, THROTTLE) == 0:
        put_down(here, actor, permission, target, Outcome.REFUSED, model=model)


def _action(
    actor: Actor,
    permission: Permission,
    outcome: Outcome,
    model: str | None = None,
    target: str | None = None,
    what: str | None = None,
) -> Action:
    """An action, with the role that allows it, or else one that the actor has."""
    held = (actor.grants.get(model or EVERY), actor.grants.get(EVERY), *actor.grants.values())
    role = actor.role(permission, model) or next((own for own in held if own), NOBODY)
    return Action(actor.account, role, what or permission, outcome, model, target)


def _address(request: Request) -> str:
    """What failures are counted under of an address: of IPv6 the network of one household."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(ip_network((address, 64), strict=False)) if address.version == 6 else host
