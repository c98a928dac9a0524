"""A client of the service for programs: the same verbs as ``expunge ledger``, typed, over HTTP.

    with Client("https://forget.example.org", key) as client:
        request = client.submit("faces", "subject", ["person 17"], idempotency_key="ticket-4711")
        done = client.wait(request.request)
        print(done.state, client.certificate("faces"))

What the service refuses is raised as the error that the ledger itself raises. A call that can be
sent twice without doing anything twice is tried again where the network or the service fails.

What is answered is declared here and not taken from the ledger: to ask needs neither torch nor a
database, and the service may be of another version.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from expunge.errors import ConflictError, ExpungeError, ForbiddenError, UnknownError

PAGE = 200
"""Rows of a list that are fetched at once."""
PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each further try."""
PASSING = frozenset({429, 502, 503, 504})
"""Statuses after which the same may succeed."""
SILENCE = 60.0
"""Seconds without any sign of life after which a stream is opened again."""
NOTHING: Mapping[str, Any] = MappingProxyType({})

T = TypeVar("T")


class ServiceError(ExpungeError):
    """The service cannot be reached, or is at fault."""


class SignInError(ForbiddenError):
    """The key opens nothing: it is unknown, was revoked, or is past its time."""


BY_STATUS: Mapping[int, type[ExpungeError]] = {
    401: SignInError,
    403: ForbiddenError,
    404: UnknownError,
    409: ConflictError,
}


@dataclass(frozen=True)
class Model:
    """A registered model, and what waits for it.

    Attributes:
        name: of the model.
        version: number of the current version.
        deletion_state: how far its deletion goes; None before any.
        requests: how many there are, by state.
        overdue: ids of requests whose deadline is past.
    """

    name: str
    version: int
    deletion_state: str | None
    requests: Mapping[str, int]
    overdue: Sequence[str]


@dataclass(frozen=True)
class Receipt:
    """A request that was taken: its id and number, its state, and whether it was there before."""

    request: str
    model: str
    number: int
    state: str
    repeated: bool


@dataclass(frozen=True)
class Request:
    """A request in a list."""

    request: str
    number: int
    kind: str
    state: str
    reason: str | None
    rows: int | None
    method: str | None
    priority: int
    deadline: str | None
    created: str
    updated: str
    sealed: bool


@dataclass(frozen=True)
class Detail(Request):
    """All that is known of a request, without what it names.

    Attributes beside those of :class:`Request`:
        model: name of the model.
        strength: how far the change is applied, where the request says so.
        versions: that its runs published.
        attempts: what was tried, and with which outcome.
        figures: what the current version scores on its rows; None before it is answered.
    """

    model: str
    strength: float | None
    versions: Sequence[str]
    attempts: Sequence[Mapping[str, str]]
    figures: Mapping[str, Any] | None


@dataclass(frozen=True)
class Step:
    """Where a run about a request stands; ``share`` of the step is done, where that is known."""

    run: str
    kind: str
    state: str
    step: str
    since: str
    share: float | None


@dataclass(frozen=True)
class Progress:
    """Where a request stands, and the runs about it that have not ended."""

    request: str
    state: str
    reason: str | None
    updated: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Version:
    """A version of a model; ``weights`` is their SHA-256."""

    version: int
    cause: str
    created: str
    deletion_state: str | None
    weights: str
    metric: str
    retained: float
    kept: float


@dataclass(frozen=True)
class Preview:
    """What a request would remove: ``rows`` named, ``forgotten`` already, ``removed`` newly."""

    column: str
    rows: int
    forgotten: int
    copies: int | None
    removed: int
    unknown: Sequence[str]
    sentence: str


@dataclass(frozen=True)
class Plan:
    """What a seal would destroy and what it cannot reach."""

    requests: Sequence[str]
    remade: Sequence[str]
    objects: Sequence[Mapping[str, Any]]
    outside: Sequence[str]


class Client:
    """A connection to a service, by an API key. Use it in ``with``, or :meth:`close` it.

    Args:
        url: of the service, such as ``http://127.0.0.1:8000``.
        key: an API key of an account.
        timeout: seconds that an answer may take.
        verify: file of the certificate authority to trust; those of the system by default.
        transport: how requests are sent; for tests.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float = 60.0,
        verify: str | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
            timeout=timeout,
            verify=verify,
            transport=transport,
            follow_redirects=False,  # a key is sent to the service alone
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def models(self) -> list[Model]:
        """The models that the account has a role for."""
        return [_made(Model, found) for found in self._get("/v1/models")["models"]]

    def model(self, model: str) -> Model:
        """One model.

        Raises:
            UnknownError: there is none, or the account may not know.
        """
        return _made(Model, self._get(_at("models", model)))

    def preview(
        self,
        model: str,
        column: str,
        values: Iterable[str],
        *,
        anchor: str | None = None,
        text: str | None = None,
    ) -> Preview:
        """What a request would remove; nothing is written."""
        scope = _scope(column, values, None, anchor, text)
        sent = self._sent("POST", _at("models", model, "preview"), again=True, json=scope)
        return _made(Preview, sent.json())

    def submit(
        self,
        model: str,
        column: str,
        values: Iterable[str],
        *,
        name: str | None = None,
        method: str | None = None,
        parameters: Mapping[str, Any] = NOTHING,
        aggregation: str | None = None,
        strength: float | None = None,
        anchor: str | None = None,
        text: str | None = None,
        deadline: str | None = None,
        priority: int = 0,
        metadata: Mapping[str, Any] = NOTHING,
        known: bool = False,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Ask for a removal.

        Args:
            model: name of a registered model.
            column: of its training table: id, subject, label, concept ...
            values: whose rows are to be forgotten.
            name: what people call it.
            method: registered name; the model's own by default.
            parameters: fields of the method.
            aggregation: registered name of the rule; the model's own by default.
            strength: how far the change is applied; the model's own by default.
            anchor: the concept in the place of the target, where a method needs one.
            text: words that a model which is told sentences must not draw.
            deadline: ISO 8601 with a time zone; the policy's days from now by default.
            priority: larger ones are answered first.
            metadata: JSON values of your own; kept encrypted.
            known: refuse values that no training row has.
            idempotency_key: the same key is the same request, however often it is sent; a random
                one by default, so that a failed call is tried again without asking twice.

        Raises:
            UnknownError: there is no such model.
            ConflictError: the key was used for something else.
            ExpungeError: the service cannot use what is asked; its sentence says why.
        """
        body = {
            **_scope(column, values, name, anchor, text),
            "method": method,
            "parameters": dict(parameters),
            "aggregation": aggregation,
            "strength": strength,
            "deadline": deadline,
            "priority": priority,
            "metadata": dict(metadata),
            "known": known,
        }
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        where = _at("models", model, "requests")
        return _made(
            Receipt, self._sent("POST", where, again=True, json=body, headers=headers).json()
        )

    def requests(self, model: str, state: str | None = None) -> Iterator[Request]:
        """Requests for a model, the newest first; those in one state where one is given."""
        for found in self._pages(_at("models", model, "requests"), {"state": state}):
            yield _made(Request, found)

    def request(self, request: str) -> Detail:
        """All that is known of a request, without what it names."""
        return _made(Detail, self._get(_at("requests", request)))

    def scope(self, request: str) -> dict[str, Any]:
        """What a request names, and its account; that it was read is put down."""
        return self._get(_at("requests", request, "scope"))

    def progress(self, request: str) -> Iterator[Progress]:
        """Where a request stands, each time that it changes, until nothing will follow.

        A stream that is cut is opened again.
        """
        last, failures = None, 0
        while True:
            try:
                for event, mark, data in self._events(request, last):
                    last, failures = mark, 0
                    if event == "end":
                        return
                    yield _progress(data)
            except (httpx.TransportError, ServiceError) as error:
                failures += 1
                if failures > len(PAUSES):
                    raise _unreached(error) from None
            time.sleep(PAUSES[max(0, failures - 1)])

    def wait(
        self,
        request: str,
        timeout: float | None = None,
        told: Callable[[Progress], None] = lambda _: None,
    ) -> Detail:
        """Wait until a request is answered; all that is known of it then.

        Args:
            request: its id.
            timeout: seconds; for ever by default.
            told: called with every change.

        Raises:
            ServiceError: it took longer, or the service is out of reach.
        """
        end = None if timeout is None else time.monotonic() + timeout
        for progress in self.progress(request):
            told(progress)
            if end is not None and time.monotonic() > end:
                raise ServiceError(
                    f"The request {request} is {progress.state} after {timeout:g} seconds; wait "
                    "longer, or see that a worker runs."
                )
        return self.request(request)

    def revoke(self, request: str, reason: str) -> str:
        """Take back a published request; the id of the run that does."""
        return str(self._post(_at("requests", request, "revocation"), {"reason": reason})["run"])

    def cancel(self, request: str, reason: str) -> None:
        """Withdraw a request before anything was done for it."""
        self._post(_at("requests", request, "cancellation"), {"reason": reason})

    def retry(self, request: str) -> None:
        """Have a request that was refused or failed tried again."""
        self._post(_at("requests", request, "retry"), None)

    def versions(self, model: str) -> Iterator[Version]:
        """Versions of a model, the newest first."""
        for found in self._pages(_at("models", model, "versions"), {}):
            yield _made(Version, found)

    def history(self, model: str) -> dict[str, Any]:
        """Every version, and what each scores on the rows of every request."""
        return self._get(_at("models", model, "history"))

    def certificate(self, model: str, version: int | None = None) -> bytes:
        """The certificate of a version as it was issued; of the current one by default."""
        number = self.model(model).version if version is None else version
        where = _at("models", model, "versions", number, "certificate")
        return self._sent("GET", where, again=True).content

    def seal_plan(self, model: str, before: str | None = None) -> Plan:
        """What a seal would do; nothing is changed."""
        return _made(Plan, self._get(_at("models", model, "seal-plan"), {"before": before}))

    def seal(
        self, model: str, before: str | None = None, planned: Sequence[str] | None = None
    ) -> str:
        """Queue a seal; the id of its run. Once a worker has begun, nothing undoes it.

        Args:
            model: its name.
            before: requests published before this time (ISO 8601); all by default.
            planned: ids that the plan listed; nothing is sealed where there are others by now.
        """
        asked = {"before": before, "planned": None if planned is None else list(planned)}
        return str(self._post(_at("models", model, "seals"), asked)["run"])

    def _get(self, where: str, query: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
        given = {name: value for name, value in query.items() if value is not None}
        found: dict[str, Any] = self._sent("GET", where, again=True, params=given).json()
        return found

    def _post(self, where: str, body: object) -> dict[str, Any]:
        found: dict[str, Any] = self._sent("POST", where, again=False, json=body).json()
        return found

    def _pages(self, where: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        cursor = None
        while True:
            page = self._get(where, {**query, "cursor": cursor, "limit": PAGE})
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def _sent(self, method: str, where: str, *, again: bool, **more: Any) -> httpx.Response:
        """An answer; where it may be sent again, it is, after what passes."""
        pauses = iter(PAUSES if again else ())
        while True:
            pause = next(pauses, None)
            try:
                answer = self._http.request(method, where, **more)
            except httpx.TransportError as error:
                if pause is None:
                    raise _unreached(error) from None
            else:
                if answer.status_code not in PASSING or pause is None:
                    return _checked(answer)
                pause = max(pause, _asked(answer))
            time.sleep(pause)

    def _events(
        self, request: str, last: str | None
    ) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """Events of one stream: the name, the id and the data of each."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        where, timeout = _at("requests", request, "events"), httpx.Timeout(SILENCE)
        with self._http.stream("GET", where, headers=headers, timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
                _checked(answer)
            fields_: dict[str, str] = {}
            for line in answer.iter_lines():
                if line:
                    name, _, value = line.partition(":")
                    fields_[name] = value.removeprefix(" ")
                    continue
                if "data" in fields_:
                    data = json.loads(fields_["data"])
                    yield fields_.get("event", "message"), fields_.get("id"), data
                fields_ = {}


def _at(*parts: str | int) -> str:
    """An address; no name leaves its place in it."""
    quoted = [quote(str(part), safe="") for part in parts]
    return "/v1/" + "/".join("%2E" * len(part) if part in (".", "..") else part for part in quoted)


def _scope(
    column: str, values: Iterable[str], name: str | None, anchor: str | None, text: str | None
) -> dict[str, Any]:
    if isinstance(values, str):  # else each of its letters would be asked for
        raise ExpungeError(f"The values {values!r} were given as one text; give a list of texts.")
    named = {"column": column, "values": list(values), "name": name, "anchor": anchor}
    return named if text is None else {**named, "text": text}


def _made(kind: type[T], found: Mapping[str, Any]) -> T:
    """What was answered; a later service may tell more."""
    own = {own.name for own in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in found.items() if name in own})


def _progress(data: Mapping[str, Any]) -> Progress:
    steps = tuple(_made(Step, step) for step in data["steps"])
    return _made(Progress, {**data, "steps": steps})


def _asked(answer: httpx.Response) -> float:
    """Seconds that the service asks to wait, a minute at most."""
    given = answer.headers.get("retry-after", "")
    return min(60.0, float(given)) if given.isdecimal() else 0.0


def _checked(answer: httpx.Response) -> httpx.Response:
    """An answer that is no problem.

    Raises:
        ExpungeError: it is one; the kind by its status, with its sentence.
    """
    if not answer.is_error and not answer.is_redirect:
        return answer
    try:
        told = answer.json()
    except ValueError:
        told = None
    problem: dict[str, Any] = told if isinstance(told, dict) else {}
    sentence = (
        problem.get("detail")
        or problem.get("title")
        or (f"The service answered with the status {answer.status_code}; is this its address?")
    )
    status = answer.status_code
    passing = status >= 500 or status == 429 or not problem
    raise BY_STATUS.get(status, ServiceError if passing else ExpungeError)(str(sentence))


def _unreached(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    return ServiceError(
        f"The service cannot be reached ({type(error).__name__}); see that it runs at this address."
    )
