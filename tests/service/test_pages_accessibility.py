"""Every page under axe-core, in light and in dark, at two widths: no serious violation."""

from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn

from expunge.ledger.accounts import Role
from expunge.ledger.asking import revoke

pytest.importorskip("playwright")
from access_probe import PASSWORD
from page_world import CHROMIUM, FLAGS, WIDTHS, Watch, World, axe_script, served
from playwright.sync_api import Page, sync_playwright

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
    pytest.mark.skipif(axe_script() is None, reason="no axe-core (npm): set EXPUNGE_AXE"),
]
SERIOUS = ("serious", "critical")
RUN = """
async () => (await axe.run(document, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
})).violations.map((v) => ({
  id: v.id, impact: v.impact, nodes: v.nodes.map((n) => n.html + " " + n.failureSummary),
}))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, digits_model: nn.Module) -> Iterator[World]:
    """A ledger with a published, a revoked, an answered and a waiting request."""
    with served(tmp_path_factory.mktemp("axe"), digits_model) as made:
        made.add_account("maria", admin=True)
        made.add_account("rita", Role.REQUESTER, model="digits")
        first = made.working.served("subject", "writer 3")
        revoke(made.ledger, first, "operator", "it was withdrawn")
        made.working.work()
        made.working.served("subject", "writer 7")
        made.working.ask("subject", "writer 8")
        yield made


def paths(world: World) -> dict[str, str]:
    requests = sorted(world.working.rows("requests"), key=lambda row: row["number"])
    revoked, published, waiting = (f"/requests/{row['id']}" for row in requests)
    return {
        "sign in": "/sign-in",
        "models": "/",
        "model": "/models/digits",
        "new request": "/models/digits/request",
        "published": published,
        "revoked": revoked,
        "waiting": waiting,
        "history": "/models/digits/history?from=1&to=3",
        "certificate": "/models/digits/versions/1/certificate",
        "seal": "/models/digits/seal",
        "account": "/account",
        "accounts": "/accounts",
        "actions": "/actions",
        "error": "/models/none",
    }


def violations(page: Page, name: str) -> list[str]:
    """What axe-core finds that is serious, in both colour schemes."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        result: list[dict[str, Any]] = page.evaluate(RUN)
        found += [
            f"{name}, {scheme}: {one['id']} ({one['impact']}): {one['nodes'][0]}"
            for one in result
            if one["impact"] in SERIOUS
        ]
    return found


@pytest.mark.parametrize("width", list(WIDTHS))
def test_axe_finds_nothing_serious(world: World, width: str) -> None:
    script = axe_script()
    assert script is not None
    axe = script.read_text(encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        context = browser.new_context(viewport=WIDTHS[width])  # type: ignore[arg-type]
        watch = Watch(world.address, expected=("status of 404",))
        watch.over(context)
        page, found, wide = context.new_page(), [], []
        for name, path in paths(world).items():
            page.goto(world.address + path)
            if name == "sign in":
                page.get_by_label("Name").fill("maria")
                page.get_by_label("Password").fill(PASSWORD)
            elif name == "history":
                page.locator("[data-chart=heat][data-drawn]").wait_for()
            elif name == "new request":
                page.get_by_label("is one of these values").fill("writer 9")
                page.locator("#preview strong").wait_for(timeout=90_000)
            elif name == "published":
                page.get_by_role("button", name="Show them").click()
                page.get_by_role("group", name="Answers before and after").wait_for(timeout=90_000)
            page.evaluate(
                "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
            )
            page.evaluate(axe)  # the page's policy allows no script of another origin
            found += violations(page, name)
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wide.append(name)
            if name == "sign in":
                page.get_by_role("button", name="Sign in").click()
                page.wait_for_url(f"{world.address}/")
        browser.close()
    assert found == []
    assert wide == [], "a page is wider than its window"
    assert watch.faults == []


def test_motion_is_left_out_where_that_is_asked_for(world: World) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_context(reduced_motion="reduce").new_page()
        page.goto(f"{world.address}/sign-in")
        page.get_by_label("Name").fill("maria")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{world.address}/")
        page.goto(world.address + paths(world)["waiting"])
        style = "getComputedStyle(document.querySelector('.steps .now'), '::before').animationName"
        assert page.evaluate(style) == "none"
        browser.close()
