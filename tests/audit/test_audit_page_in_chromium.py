"""The report of an audit in a real browser: drawn, silent, on a screen, a telephone and paper."""

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from expunge.audit.audit_page import write_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
PATIENCE = 120
"""Seconds for one answer of the browser, on a busy machine."""

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="there is no chromium; .ci/run installs it where it runs as root"
)

MOVED = 'exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null'
"""Chromium reads its pipe from descriptor 3 and writes to 4."""

PICTURES = """[...document.querySelectorAll("svg.chart")].map(picture => {
  const box = picture.getBoundingClientRect();
  const drawn = [...picture.querySelectorAll("polyline, circle")].filter(part => {
    const style = getComputedStyle(part), size = part.getBoundingClientRect();
    const inked = style.stroke !== "none" || style.fill !== "none";
    return inked && size.width + size.height > 0;
  });
  return {width: box.width, height: box.height, drawn: drawn.length};
})"""


class Browser:
    """Chromium without a screen, spoken to over a pipe; no name but this machine's is found."""

    def __init__(self, folder: Path) -> None:
        assert BROWSER is not None
        command = [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-pipe",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder}",
        ]
        with open(folder / "stderr", "wb") as errors:
            self._process = subprocess.Popen(
                ["sh", "-c", MOVED, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._out, self._in = self._process.stdin, self._process.stdout
        self._buffer, self._count = b"", 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str | None = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """What the browser answers."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": given}
        if self._session is not None:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while (found := self._next()).get("id") != self._count:
            self.events.append(found)
        assert "error" not in found, found
        result: dict[str, Any] = found["result"]
        return result

    def show(self, page: Path) -> None:
        """Load a page to its end."""
        self.call("Page.navigate", url=page.as_uri())
        while not self.said("Page.loadEventFired"):
            self.events.append(self._next())

    def said(self, method: str) -> list[dict[str, Any]]:
        """What it told of one kind."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"]["value"]

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self._in.fileno(), 1 << 16) if ready else b""
            assert part, f"the browser is silent or gone ({self._process.poll()})"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found


@pytest.fixture(scope="module")
def browser(
    stored_audits: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("chromium")
    page = folder / "report.html"
    write_page(stored_audits["standard"], page, examples=True)
    with Browser(folder) as found:
        found.show(page)
        yield found


def test_every_picture_is_drawn(browser: Browser) -> None:
    pictures = browser.value(PICTURES)
    assert len(pictures) >= 9
    for picture in pictures:
        assert picture["width"] > 200
        assert picture["height"] > 40
        assert picture["drawn"] > 0
    assert browser.value("[...document.images].every(one => one.naturalWidth > 0)")


def test_nothing_but_the_page_is_asked_for(browser: Browser) -> None:
    asked = [event["request"]["url"] for event in browser.said("Network.requestWillBeSent")]
    assert [url.rsplit("/", 1)[-1] for url in asked] == ["report.html"]


def test_the_browser_has_nothing_to_complain_about(browser: Browser) -> None:
    assert browser.value("document.title").startswith("Audit of the digit 8")
    assert browser.said("Log.entryAdded") == []
    assert browser.said("Runtime.consoleAPICalled") == []
    assert browser.said("Runtime.exceptionThrown") == []


def test_a_telephone_shows_the_page_without_scrolling_sideways(browser: Browser) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    try:
        assert browser.value("document.documentElement.scrollWidth") <= 360
        assert all(picture["width"] <= 360 for picture in browser.value(PICTURES))
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize(
    ("media", "scheme", "dark"),
    [("screen", "light", False), ("screen", "dark", True), ("print", "dark", False)],
)
def test_the_page_follows_light_and_dark_and_is_light_on_paper(
    media: str, scheme: str, dark: bool, browser: Browser
) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", media=media, features=features)
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(20, 24, 29)") is dark
    assert (ground == "rgb(255, 255, 255)") is not dark
