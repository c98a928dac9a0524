"""The pages as people use them: in a browser, on a real server with a worker, at two widths."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import nn

from expunge.ledger.accounts import Role
from expunge.ledger.actions import Outcome
from expunge.ledger.certificate import verified
from expunge.ledger.listing import actions_page

pytest.importorskip("playwright")
from access_probe import PASSWORD
from page_world import CHROMIUM, FLAGS, WIDTHS, Watch, World, served
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
PATIENCE = 90_000
"""Milliseconds that a worker on a busy machine may take."""
Shot = Callable[[Page, str], None]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, digits_model: nn.Module) -> Iterator[World]:
    with served(tmp_path_factory.mktemp("pages"), digits_model) as made:
        made.add_account("olga", Role.OPERATOR, model="digits")
        made.add_account("maria", admin=True)
        with made.worker():
            yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def shot(tmp_path: Path) -> Shot:
    """Keeps a picture of a page, in the folder that EXPUNGE_SCREENSHOTS names."""
    folder = Path(os.environ.get("EXPUNGE_SCREENSHOTS", str(tmp_path)))
    folder.mkdir(parents=True, exist_ok=True)

    def keep(page: Page, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png", full_page=True)

    return keep


def signed_in(page: Page, world: World, name: str) -> None:
    page.goto(f"{world.address}/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{world.address}/")


def ended(page: Page, state: str) -> None:
    """Wait until the page says by itself that a request ended in a state."""
    expect(page.locator("#live[data-ended]")).to_be_attached(timeout=PATIENCE)
    expect(page.locator("#steps-title")).to_have_text(f"State: {state}")


def asked(page: Page, world: World, subject: str) -> str:
    """Ask for a removal and wait until it is published; the id of the request."""
    page.goto(f"{world.address}/models/digits/request")
    page.get_by_label("is one of these values").fill(subject)
    page.get_by_role("button", name="Ask for the removal").click()
    page.wait_for_url(re.compile("/requests/r"))
    ended(page, "published")
    return page.url.rsplit("/", 1)[1]


@pytest.mark.parametrize("width", list(WIDTHS))
def test_the_whole_story(world: World, browser: Browser, width: str, shot: Shot) -> None:
    subject = {"wide": "writer 5", "narrow": "writer 6"}[width]
    context = browser.new_context(viewport=WIDTHS[width], accept_downloads=True)  # type: ignore[arg-type]
    # what a browser says of a form that the service refused
    watch = Watch(world.address, expected=("status of 401", "status of 422"))
    watch.over(context)
    page = context.new_page()

    # sign in, the first time with a wrong password
    page.goto(f"{world.address}/models/digits")
    expect(page).to_have_title("Sign in – expunge")
    page.get_by_label("Name").fill("olga")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").first).to_contain_text("wrong")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("digits")
    page.get_by_role("link", name="Models").first.click()
    shot(page, f"models-{width}")

    # a new request, with its preview
    page.get_by_role("link", name="New request for digits").click()
    page.get_by_label("is one of these values").fill(f"{subject}\nnobody at all")
    expect(page.locator("#preview")).to_contain_text("27 records", timeout=PATIENCE)
    expect(page.locator("#preview")).to_contain_text("'nobody at all'")
    expect(page.locator("#preview")).to_contain_text("none already forgotten")
    expect(page.locator("#methods")).to_contain_text("advised")
    shot(page, f"new-request-{width}")
    page.get_by_role("button", name="Ask for the removal").click()

    # watched without loading the page again
    page.wait_for_url(re.compile("/requests/r"))
    page.evaluate("window.sameDocument = true")
    request = page.url.rsplit("/", 1)[1]
    ended(page, "published")
    assert page.evaluate("window.sameDocument") is True
    expect(page.locator("#said")).to_contain_text("published")
    expect(page.get_by_role("region", name="Figures")).to_contain_text("stand-in for an oracle")
    expect(page.get_by_role("region", name="What the gate said")).to_contain_text("passed")
    polled: list[str] = []
    page.on("request", lambda sent: polled.append(sent.url))
    page.wait_for_timeout(2500)
    assert not polled, "a page whose request has ended asks no more"

    # answers, which are no part of the page until they are asked for
    assert "digits:" not in page.content()
    page.get_by_role("button", name="Show them").click()
    answers = page.get_by_role("group", name="Answers before and after")
    expect(answers).to_contain_text("digits:", timeout=PATIENCE)
    assert any(
        (row.action, row.target, row.outcome) == ("see answers", request, Outcome.DONE)
        for row in actions_page(world.ledger).rows
    )
    page.get_by_role("button", name="Show the words").click()
    expect(page.locator("#scope")).to_contain_text(subject)
    shot(page, f"request-{width}")

    # history, and two versions compared
    page.goto(f"{world.address}/models/digits/history")
    expect(page.locator("[data-chart=heat][data-drawn]")).to_be_visible()
    expect(page.locator("[data-chart=line][data-drawn]")).to_be_visible()
    drawn = page.locator("[data-chart=heat] .heatmap-label").all_text_contents()
    told = page.locator("#matrix td[data-cell]").all_text_contents()
    assert sorted(drawn) == sorted(text.strip() for text in told)
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#difference")).to_contain_text("tensors differ", timeout=PATIENCE)
    shot(page, f"history-{width}")

    # the certificate, verified in the browser
    page.goto(f"{world.address}/requests/{request}")
    page.get_by_role("link", name="Certificate of the version").click()
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("#verified[data-state=holds]")).to_contain_text("The signature holds")
    shot(page, f"certificate-{width}")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download the certificate").click()
    envelope = Path(waiting.value.path()).read_bytes()
    assert verified(envelope, world.ledger.keys.public)["subject"][0]["name"].startswith("digits@")
    altered = json.loads(envelope)
    altered["payload"] = altered["payload"].replace("A", "B", 1)
    page.get_by_label("Another certificate").set_input_files(
        {
            "name": "altered.json",
            "mimeType": "application/json",
            "buffer": json.dumps(altered).encode(),
        }
    )
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("#verified[data-state=refused]")).to_contain_text("does not hold")

    # taken back
    page.goto(f"{world.address}/requests/{request}")
    page.get_by_text("Take it back").click()
    page.get_by_label("Reason").fill("the person withdrew it")
    page.get_by_role("button", name="Revoke the request").click()
    ended(page, "withdrawn")

    # another one, and the seal
    asked(page, world, {"wide": "writer 15", "narrow": "writer 16"}[width])
    page.goto(f"{world.address}/models/digits/seal")
    expect(page.get_by_role("group", name="What is destroyed")).to_contain_text("delta")
    page.get_by_label("Type the model’s name").fill("another")
    page.get_by_role("button", name="Seal for good").click()
    expect(page.get_by_role("alert").first).to_contain_text("not typed")
    shot(page, f"seal-{width}")
    page.get_by_label("Type the model’s name").fill("digits")
    page.get_by_role("button", name="Seal for good").click()
    expect(page.locator("#seals")).to_contain_text("Done.", timeout=PATIENCE)

    # out
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    page.goto(f"{world.address}/models/digits")
    expect(page).to_have_title("Sign in – expunge")
    context.close()
    assert watch.faults == []


def test_everything_that_matters_works_without_javascript(world: World, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    signed_in(page, world, "olga")
    page.get_by_role("link", name="New request for digits").click()
    page.get_by_label("is one of these values").fill("writer 21")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview")).to_contain_text("records of this subject", timeout=PATIENCE)
    expect(page.get_by_label("is one of these values")).to_have_value("writer 21")
    page.get_by_role("button", name="Ask for the removal").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Request ")
    request = page.url.rsplit("/", 1)[1]
    page.get_by_role("button", name="Show the words").click()
    expect(page.locator("#scope")).to_contain_text("writer 21")
    while not page.get_by_text("State: published").count():
        page.wait_for_timeout(500)
        page.goto(f"{world.address}/requests/{request}")
    last = world.working.version()["number"]
    page.goto(f"{world.address}/models/digits/history?from={last}&to={last}")
    expect(page.locator("#difference")).to_contain_text("0 tensors differ", timeout=PATIENCE)
    expect(page.locator("#matrix")).to_be_visible()
    context.close()


def test_keyboard_alone_reaches_the_content(world: World, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    signed_in(page, world, "olga")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.goto(f"{world.address}/models/digits/request")
    page.get_by_label("Rows whose").focus()
    page.keyboard.press("Tab")
    page.keyboard.type("writer 30")
    expect(page.locator("#preview")).to_contain_text("records of this subject", timeout=PATIENCE)
    expect(page.get_by_label("is one of these values")).to_be_focused()
    context.close()


def test_a_browser_that_cannot_check_signatures_says_so(world: World, browser: Browser) -> None:
    context = browser.new_context()
    context.add_init_script(
        "crypto.subtle.importKey = async () => {"
        " throw new DOMException('', 'NotSupportedError'); };"
    )
    page = _certificate(context, world)
    expect(page.locator("#verified[data-state=unable]")).to_contain_text("cannot check Ed25519")
    expect(page.locator("#verified")).to_contain_text("expunge certificate verify")
    context.close()


def test_the_key_of_another_ledger_is_refused(world: World, browser: Browser) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    other = Ed25519PrivateKey.generate().public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    context = browser.new_context()
    page = _certificate(context, world, pem)
    expect(page.locator("#verified[data-state=refused]")).to_contain_text("another key than")
    context.close()


def _certificate(context: BrowserContext, world: World, key: str | None = None) -> Page:
    """The page of a certificate after it was asked to verify it."""
    page = context.new_page()
    signed_in(page, world, "olga")
    page.goto(f"{world.address}/models/digits/versions/0/certificate")
    if key is not None:
        page.get_by_label("Public key").fill(key)
    page.get_by_role("button", name="Verify in this browser").click()
    return page
