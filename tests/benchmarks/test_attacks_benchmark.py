"""The benchmark of attacks: its rows, what counts as brought back, its verdicts and its picture."""

from pathlib import Path
from typing import Any

import pytest

from expunge.benchmarks.attacks import picture, tables
from expunge.benchmarks.attacks.protocol import Protocol
from expunge.benchmarks.attacks.rows import FEW, AttackRows
from expunge.benchmarks.facts.world import Size, World
from expunge.errors import ExpungeError

WORLD = World(0, Size())
ROWS = AttackRows(WORLD, WORLD.size.corner)


def test_strangers_have_names_and_rows_that_no_model_was_taught() -> None:
    strangers = ROWS.strangers
    assert len(strangers) == 90
    known = {person.name for person in WORLD.people.everybody}
    assert not known & set(strangers.subjects)
    assert not {"<unk>"} & set(" ".join(strangers.subjects).split())
    tokens = {tuple(row.tolist()) for row in strangers.columns["input_ids"]}
    width = strangers.columns["input_ids"].shape[1]
    taught = {tuple(row.tolist())[:width] for row in WORLD.train.columns["input_ids"]}
    assert len(tokens) == 90
    assert not tokens & taught


def test_a_fact_is_asked_once_and_nothing_forgotten_is_learned_by_a_probe() -> None:
    assert len(ROWS.forgotten) == 30
    assert len(ROWS.retained) == 270
    learned, validation = ROWS.probing
    assert len(learned) + len(validation) == 2 * 270
    people = [set(rows.subjects) for rows in (ROWS.forgotten, learned, validation)]
    assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])


def test_relearning_never_shows_a_fact_that_it_asks() -> None:
    relearning = ROWS.relearning()
    assert list(relearning["few forgotten"]) == list(FEW)
    forgotten = set(ROWS.forgotten.subjects)
    for kind, budgets in relearning.items():
        for count, sets in budgets.items():
            assert len(sets.shown) == count
            assert not set(sets.shown.ids) & set(sets.asked.ids)
            assert set(sets.asked.subjects) <= forgotten
            same = set(sets.shown.subjects) & set(sets.asked.subjects)
            assert bool(same) == (kind == "same people")
    assert not forgotten & set(relearning["related"][60].shown.subjects)


def cell(draw: int, answered: dict[str, int], **given: Any) -> dict[str, Any]:
    attacks: dict[str, Any] = {
        name: {"answered": count, "of": 30, "share": count / 30} for name, count in answered.items()
    }
    curves = {"curves": {"3": [0.0, 0.1], "6": [0.0, answered["few forgotten"] / 30]}}
    attacks["few forgotten"] |= curves
    membership = {"loss": 0.5, "Min-K%": 0.5}
    return {"draw": draw, "retain": 1.0, "attacks": attacks, "membership": membership, **given}


def result(methods: list[dict[str, Any]]) -> dict[str, Any]:
    def known(base: bool, count: int) -> dict[str, Any]:
        found = {"asked": 30, "prefix": 30, "few forgotten": 30} if base else {}
        own = found or {"asked": count, "prefix": 1, "few forgotten": 2}
        return cell(0, own, oracle=not base, seed=count)

    return {
        "size": vars(Size()),
        "draws": 1,
        "references": [known(True, 0), known(False, 0), known(False, 1), known(False, 1)],
        "methods": methods,
    }


def test_only_what_is_beyond_the_oracles_under_the_same_attack_is_brought_back() -> None:
    found = result(
        [
            cell(0, {"asked": 1, "prefix": 2, "few forgotten": 3}, method="gone"),
            cell(0, {"asked": 1, "prefix": 1, "few forgotten": 20}, method="hidden"),
            cell(0, {"asked": 25, "prefix": 25, "few forgotten": 25}, method="there"),
            {"method": "unwilling", "draw": 0, "refused": "it needs more"},
        ]
    )
    lines = {line.partition(":")[0]: line for line in tables.verdicts(found)}
    assert lines["gone"].startswith("gone: deleted: nothing beyond the oracle in 3 attacks on 30")
    assert lines["hidden"].startswith(
        "hidden: suppressed: few forgotten brings back +0.60 (0.67, oracle 0.07±0.00)"
    )
    assert lines["there"].startswith("there: not forgotten: +0.81")
    assert lines["unwilling"] == "unwilling: refused: it needs more"
    assert "0 of 9 attacks called beyond" in lines["oracles against each other"]
    comparison = tables.comparisons(found)["gone"]
    assert comparison.excesses["asked"].value == pytest.approx(1 / 30 - 2 / 90)
    assert 1 / 30 < comparison.noticed < 0.3
    least = round(comparison.noticed * 30)
    for answered, beyond in ((least, True), (least - 1, False)):
        other = result([cell(0, {"asked": answered, "prefix": 1, "few forgotten": 2}, method="x")])
        assert tables.comparisons(other)["x"].excesses["asked"].beyond is beyond


def test_an_excess_within_what_oracles_differ_by_is_none() -> None:
    found = result([cell(0, {"asked": 1, "prefix": 12, "few forgotten": 2}, method="x")])
    assert tables.comparisons(found)["x"].excesses["prefix"].beyond
    for oracle, answered in zip(found["references"][1:], (0, 12, 3), strict=True):
        oracle["attacks"]["prefix"]["answered"] = answered
    assert not tables.comparisons(found)["x"].excesses["prefix"].beyond


def test_a_model_from_which_nothing_comes_back_may_be_told_from_an_oracle() -> None:
    """With 30 facts against 90 an AUC of .5 has a half-width of .12."""
    never = {"asked": 0, "prefix": 0, "few forgotten": 0}
    for auc, told in ((0.45, False), (0.1, True), (0.9, True)):
        one = cell(0, never, method="x") | {"membership": {"loss": 0.5, "Min-K%": auc}}
        [line, _] = tables.verdicts(result([one]))
        assert line.startswith("x: deleted: nothing beyond the oracle")
        assert line.endswith(f"; Min-K% tells: AUC {auc:.2f}, oracle 0.50") is told
    found = result([one])
    for oracle, auc in zip(found["references"][1:], (0.1, 0.5, 0.9), strict=True):
        oracle["membership"]["Min-K%"] = auc
    assert tables.comparisons(found)["x"].trace is None


def test_fishers_test_is_that_of_the_tables() -> None:
    stats = pytest.importorskip("scipy.stats")
    for mine, theirs in ((5, 1), (0, 3), (30, 90), (12, 30)):
        given = [[mine, 30 - mine], [theirs, 90 - theirs]]
        expected = stats.fisher_exact(given, alternative="greater").pvalue
        assert tables._fisher(mine, 30, theirs, 90) == pytest.approx(float(expected))


def test_an_attack_that_a_model_does_not_admit_is_left_out() -> None:
    one = cell(0, {"asked": 0, "prefix": 0, "few forgotten": 0}, method="x")
    one["attacks"]["few forgotten"] = {"not": "no weight can move"}
    one["attacks"]["edit off"] = {"answered": 30, "of": 30, "share": 1.0}
    found = result([one])
    assert set(tables.comparisons(found)["x"].excesses) == {"asked", "prefix", "edit off"}
    [line, _] = tables.verdicts(found)
    assert "edit off brings back +0.98" in line
    titles = [title for title, _, _ in tables.tables(found)]
    assert len(titles) == 4
    assert picture.png(found).startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_protocol_resumes_finds_what_idk_hides_and_nothing_of_a_retrained_model(
    tmp_path: Path,
) -> None:
    size = Size(30, 6, 2, layers=3, width=64, inner=128, epochs=50, learning_rate=3e-3)

    def conduct() -> tuple[dict[str, Any], list[bool]]:
        told: list[bool] = []
        protocol = Protocol(tmp_path, ("idk", "retrain"), oracles=2, processes=1, size=size)
        return protocol.conduct(lambda _, stored: told.append(stored)), told

    found, _ = conduct()
    again, told = conduct()
    assert again == found
    assert all(told)
    lines = {line.partition(":")[0]: line for line in tables.verdicts(found)}
    assert "suppressed" in lines["idk"]
    assert lines["retrain"].startswith("retrain: deleted: nothing beyond the oracle")
    assert "tells" not in lines["retrain"]
    assert "0 of" in lines["oracles against each other"]
    assert picture.png(found).startswith(b"\x89PNG")


def test_what_cannot_be_attacked_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="4 draws"):
        Protocol(tmp_path, draws=4)
    with pytest.raises(ExpungeError, match="1 oracles"):
        Protocol(tmp_path, oracles=1)
    with pytest.raises(ExpungeError, match="nonsense"):
        Protocol(tmp_path, ("nonsense",))
