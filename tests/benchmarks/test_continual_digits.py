"""The digits protocol in short: one seed, three requests."""

from expunge import registry
from expunge.benchmarks import continual_digits
from expunge.cli.output import console, table


def test_every_rule_keeps_its_budget_and_forgets_more_than_nothing() -> None:
    result = continual_digits.run(seeds=1, requests=3)
    [seed] = result["by seed"]
    assert set(seed) == {
        "original",
        "oracle",
        "ascent, sequential",
        *registry.names("aggregations"),
        *(f"confined, {name}" for name in registry.names("aggregations")),
    }
    assert seed["oracle"]["forgotten"] == 0
    for name in set(seed) - {"original", "oracle", "ascent, sequential"}:
        assert seed[name]["forgotten"] <= seed["original"]["forgotten"]
        # the budget is kept on validation; the test split may cost a little more
        assert seed[name]["retained"] >= seed["original"]["retained"] - 0.1
    assert seed["cata"]["forgotten"] < seed["mean"]["forgotten"]
    assert seed["confined, sum"]["forgotten"] < min(0.1, seed["sum"]["forgotten"])
    assert seed["ascent, sequential"]["retained"] < 0.5  # the control that must fail

    [(title, columns, rows)] = continual_digits.tables(result)
    with console.capture() as shown:
        console.print(table(title, columns, rows), width=80)
    assert "<sum" in shown.get()
