"""Serve a model from a ledger: every answer comes from one whole version, behind its guards, and
without the rows that it removed from its index.

First:   expunge ledger init
         expunge ledger register digits --from expunge.benchmarks.registered:digits
         expunge ledger request digits --class 8 && expunge ledger run
Then:    python examples/serve.py sqlite:///ledger/ledger.db digits 8080
Ask:     curl -d '{"pixels": [0, 0, 5, ...]}' http://127.0.0.1:8080/      64 numbers from 0 to 16
         curl -d '{"like": "digits:0003", "count": 5}' http://127.0.0.1:8080/      the nearest ones
Remove:  expunge ledger request digits --id digits:0004 --method redact && expunge ledger run

It listens on this machine only. A version that is published meanwhile answers as soon as it stands.
With `emoji` in the place of `digits` the nearest drawings are found likewise; it takes no pixels.
"""

import json
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.data.samples import Samples, batches
from expunge.families.abilities import HasLogits, able
from expunge.families.dual_encoder import DualEncoder
from expunge.ledger import Latest, Ledger
from expunge.ledger.serving import Version

PIXELS = 64
STORE = "index"
"""The name by which a redaction knows what is built here."""


@dataclass(frozen=True)
class Index:
    """Training rows by what one version makes of them: ids, and unit vectors (n, d)."""

    version: int
    ids: tuple[str, ...]
    vectors: Tensor

    @classmethod
    def of(cls, version: Version) -> "Index":
        """Of the training rows that the version does not leave out: others never enter it."""
        removed, train = version.removed(STORE), version.material.train
        kept = [i for i, name in enumerate(train.ids) if name not in removed]
        rows = train.select(torch.tensor(kept, dtype=torch.int64))
        return cls(version.number, tuple(rows.ids), embedded(version, rows))

    def near(self, wanted: str, count: int) -> list[dict[str, object]]:
        """The rows nearest to one, itself left out, by cosine similarity."""
        if wanted not in self.ids:
            raise ValueError("there is no such row, or it was removed")
        place = self.ids.index(wanted)
        alike = self.vectors @ self.vectors[place]
        alike[place] = -torch.inf
        values, places = alike.topk(min(count, len(self.ids) - 1))
        return [
            {"id": self.ids[i], "similarity": value}
            for i, value in zip(places.tolist(), values.tolist(), strict=True)
        ]


def embedded(version: Version, rows: Samples) -> Tensor:
    """Unit vectors (n, d): image features of a dual encoder, the logits of a classifier."""
    family, found = version.material.family, []
    with torch.inference_mode():
        for batch in batches(rows, 256):
            if isinstance(family, DualEncoder):
                found.append(family.image_features(version.model, batch))
            else:
                found.append(able(family, HasLogits).logits(version.model, batch))
    return F.normalize(torch.cat(found).float(), dim=1)


class Answering:
    """Answers with the current version, whose index is built once, when it is first asked for."""

    def __init__(self, latest: Latest) -> None:
        self.latest = latest
        self._index: Index | None = None
        self._lock = threading.Lock()

    def answer(self, asked: dict[str, object]) -> dict[str, object]:
        """The label of an 8 x 8 picture, or the rows nearest to one, with the version that says so.

        A row by its id is refused where the version removed it from what it is served.
        """
        version = self.latest.get()
        said = self._near(version, asked) if "like" in asked else labelled(version, asked)
        return {
            **said,
            "version": version.number,
            "weights": version.digest,
            "deletion state": version.deletion_state,
        }

    def _near(self, version: Version, asked: dict[str, object]) -> dict[str, object]:
        count = asked.get("count", 5)
        if not isinstance(count, int) or count < 1:
            raise ValueError("count: a number of at least 1 is expected")
        with self._lock:
            if self._index is None or self._index.version != version.number:
                self._index = Index.of(version)
            index = self._index
        return {"rows": index.near(str(asked["like"]), count)}


def labelled(version: Version, asked: dict[str, object]) -> dict[str, object]:
    """The label of an 8 x 8 picture."""
    if str(asked.get("id")) in version.removed(STORE):
        raise ValueError("this row was removed")
    pixels = asked.get("pixels")
    if not isinstance(pixels, list) or len(pixels) != PIXELS or not all(map(is_number, pixels)):
        raise ValueError(f"pixels: {PIXELS} numbers from 0 to 16 are expected")
    picture = torch.tensor(pixels, dtype=torch.float32).reshape(1, 1, 8, 8) / 16
    with torch.inference_mode():
        logits = version.model(picture)[0]
    return {"label": int(logits.argmax()), "probability": float(logits.softmax(0).max())}


def is_number(given: object) -> bool:
    """Whether a value of JSON is a number."""
    return isinstance(given, int | float) and not isinstance(given, bool)


def server(latest: Latest, port: int) -> ThreadingHTTPServer:
    """A server on the loopback interface; port 0 takes a free one."""
    answering = Answering(latest)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                if not isinstance(asked, dict):
                    raise ValueError("an object is expected")
                status, said = 200, answering.answer(asked)
            except ValueError as error:
                status, said = 400, {"error": str(error)}
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """What is asked is nobody's business."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    url, model, port = sys.argv[1:]
    serving = server(Latest(Ledger.open(url), model), int(port))
    print(f"http://127.0.0.1:{serving.server_address[1]}/")
    serving.serve_forever()
