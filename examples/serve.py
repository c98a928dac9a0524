"""Serve a model from a ledger: every answer comes from one whole version, behind its guards.

First:   expunge ledger init
         expunge ledger register digits --from expunge.benchmarks.registered:digits
         expunge ledger request digits --class 8 && expunge ledger run
Then:    python examples/serve.py sqlite:///ledger/ledger.db digits 8080
Ask:     curl -d '{"pixels": [0, 0, 5, ...]}' http://127.0.0.1:8080/      64 numbers from 0 to 16

It listens on this machine only. A version that is published meanwhile answers as soon as it stands.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from expunge.ledger import Latest, Ledger
from expunge.ledger.serving import Version

PIXELS = 64


def answer(version: Version, asked: dict[str, object]) -> dict[str, object]:
    """The label of an 8 x 8 picture, with the version that says so.

    A row by its id is refused where the version removed it from what it is served.
    """
    removed = {name for r in version.redactions for ids in r.removed.values() for name in ids}
    if asked.get("id") in removed:
        raise ValueError("this row was removed")
    pixels = asked.get("pixels")
    if not isinstance(pixels, list) or len(pixels) != PIXELS:
        raise ValueError(f"pixels: {PIXELS} numbers from 0 to 16 are expected")
    picture = torch.tensor(pixels, dtype=torch.float32).reshape(1, 1, 8, 8) / 16
    with torch.inference_mode():
        logits = version.model(picture)[0]
    return {
        "label": int(logits.argmax()),
        "probability": float(logits.softmax(0).max()),
        "version": version.number,
        "weights": version.digest,
        "deletion state": version.deletion_state,
    }


def server(latest: Latest, port: int) -> ThreadingHTTPServer:
    """A server on the loopback interface; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                if not isinstance(asked, dict):
                    raise ValueError("an object is expected")
                status, said = 200, answer(latest.get(), asked)
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
