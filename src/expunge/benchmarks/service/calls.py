"""Calls of the service by kind: what is asked, and whether the answer is as it should be."""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from expunge.benchmarks.reliability import toy
from expunge.benchmarks.service.site import MODEL, Key

MIX: Mapping[str, int] = {
    "submit": 15,
    "submit again": 5,
    "request": 25,
    "page of requests": 15,
    "events": 10,
    "models": 10,
    "model": 5,
    "versions": 5,
    "preview": 5,
    "history": 3,
    "health": 2,
}
"""How often of a hundred calls each kind is made: people and programs look more often than they
ask, and a program that got no answer asks again under the same key."""
NAMED = 100
"""Rows of the toy that requests name, each once; the others are never forgotten."""
UNKNOWN = 0.6
"""Share of the requests that name somebody who is not in the training data, beside those of clients
whose rows are all named."""
TIMEOUT = 60.0
"""Seconds after which a call has failed."""
OF_OPERATORS = {"history": "page of requests", "versions": "models"}
"""What a requester, who may not see the one, asks for in its place."""


@dataclass
class Client:
    """One client: what it asks, what it was answered, and what was wrong.

    Args:
        url: of the service.
        key: of its account.
        seed: of what it asks.
        number: of the client; its idempotency keys begin with it.
        others: clients there are, with this one: each names rows of its own.
    """

    url: str
    key: Key
    seed: int
    number: int
    others: int
    seconds: list[tuple[str, float]] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    receipts: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _cursor: str | None = None

    def __post_init__(self) -> None:
        self.draw = random.Random(f"{self.seed} {self.number}")
        self._rows = list(toy.material().train.ids[self.number : NAMED : self.others])
        self.http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.key.secret}"},
            timeout=TIMEOUT,
        )

    async def work(self, calls: int) -> None:
        """Make a number of calls, one after another."""
        async with self.http:
            kinds = self.draw.choices(list(MIX), list(MIX.values()), k=calls)
            for kind in kinds:
                await self.timed(kind)

    async def timed(self, kind: str) -> None:
        """Make one call; put down how long it took, or what was wrong."""
        if self.key.role.value == "requester":
            kind = OF_OPERATORS.get(kind, kind)
        if not self.receipts and kind in ("submit again", "request", "events"):
            kind = "submit"
        start = time.perf_counter()
        try:
            fault = await self._call(kind)
        except httpx.HTTPError as error:
            fault = type(error).__name__
        if fault is not None:
            self.wrong[f"{kind}: {fault}"] += 1
        else:
            self.seconds.append((kind, time.perf_counter() - start))

    async def _call(self, kind: str) -> str | None:
        """What is wrong with the answer."""
        if kind == "submit":
            return await self.submit(f"{self.number}-{len(self.receipts)}")
        if kind == "submit again":
            return await self.submit(self.draw.choice(list(self.receipts)))
        if kind == "events":
            return await self._events(self.draw.choice(list(self.receipts.values())))
        if kind == "preview":
            answer = await self.http.post(f"/v1/models/{MODEL}/preview", json=self._looked_at())
        else:
            answer = await self.http.get(self._where(kind))
        if answer.status_code != 200:
            return f"status {answer.status_code}"
        if kind == "page of requests":
            self._cursor = answer.json()["next"]
        return None

    async def submit(self, key: str) -> str | None:
        """Ask for a removal under a key; the same body each time that the key is used."""
        body = self.bodies.setdefault(key, self._scope())
        answer = await self.http.post(
            f"/v1/models/{MODEL}/requests", json=body, headers={"Idempotency-Key": key}
        )
        known = self.receipts.get(key)
        expected = (200, 201) if known is None else (200,)
        if answer.status_code not in expected:
            return f"status {answer.status_code}"
        request = answer.json()["request"]
        if known not in (None, request):
            return "another request under the same key"
        self.receipts[key] = request
        return None

    async def _events(self, request: str) -> str | None:
        """The first event of a stream; then it is left."""
        async with self.http.stream("GET", f"/v1/requests/{request}/events") as answer:
            if answer.status_code != 200:
                return f"status {answer.status_code}"
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    return None
        return "no event"

    def _where(self, kind: str) -> str:
        page = "" if self._cursor is None else f"&cursor={self._cursor}"
        receipts = list(self.receipts.values())
        return {
            "request": f"/v1/requests/{self.draw.choice(receipts) if receipts else ''}",
            "page of requests": f"/v1/models/{MODEL}/requests?limit=20{page}",
            "models": "/v1/models",
            "model": f"/v1/models/{MODEL}",
            "versions": f"/v1/models/{MODEL}/versions?limit=20",
            "history": f"/v1/models/{MODEL}/history",
            "health": "/healthz",
        }[kind]

    def _looked_at(self) -> dict[str, Any]:
        return {"column": "id", "values": [self.draw.choice(toy.material().train.ids)]}

    def _scope(self) -> dict[str, Any]:
        nobody = not self._rows or self.draw.random() < UNKNOWN
        value = f"nobody {self.draw.random()}" if nobody else self._rows.pop()
        return {"column": "id", "values": [value], "name": "a request"}


def clients_of(url: str, keys: Sequence[Key], seed: int, number: int) -> list[Client]:
    """So many clients of a service, who share the keys."""
    return [Client(url, keys[n % len(keys)], seed, n, number) for n in range(number)]


def receipts_of(clients: Sequence[Client]) -> list[str]:
    """Ids of the requests that were taken, one for each key."""
    return [request for client in clients for request in client.receipts.values()]


def wrong_of(clients: Sequence[Client]) -> dict[str, int]:
    """How often each thing was wrong."""
    return dict(sum((client.wrong for client in clients), Counter()))
