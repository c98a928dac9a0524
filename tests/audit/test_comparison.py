"""Comparison: the same seeds for all, factors from validation rows alone, cells used again."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from expunge.aggregation import Sum
from expunge.audit.case import Case
from expunge.audit.comparison import (
    AS_IT_COMES,
    MATCHED,
    ORACLE,
    ORIGINAL,
    Cell,
    Cells,
    Comparison,
    Contender,
)
from expunge.audit.comparison_page import escaped, latex, page, spread_text
from expunge.audit.comparison_tables import GAP, RETAINED, Compared, Spread
from expunge.audit.measure import Panel, measure
from expunge.benchmarks.shipped import Work
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.families.regressor import Regressor
from expunge.learning.supervised.plain import Plain
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.protocol import Method
from expunge.methods.retrain import Retrain
from expunge.problem import Access
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals.ask import metric_of

REQUESTS = (Request("eights", Rows("label", ("8",))), Request("threes", Rows("label", ("3",))))
ASCENT = GradientAscent(epochs=6, learning_rate=2e-3)


def contender(method: Method, name: str = "", source: str = "0") -> Contender:
    return Contender(name or method.name, method, "by hand", source)


def quiet(name: str, seed: int, stored: bool) -> None:
    pass


@pytest.fixture(scope="module")
def comparison(digits_work: Work, digits_model: nn.Module, tmp_path_factory: Any) -> Comparison:
    work = digits_work
    recipe = replace(work.recipe, learner=Plain(10))
    few = torch.arange(500)
    train, table = work.data[Role.TRAIN].select(few), work.table.select(few.tolist())  # type: ignore[attr-defined]
    deployment = Deployment(digits_model, recipe.family, train, table, Sum(), recipe=recipe)
    return Comparison(
        Case.of(deployment, REQUESTS),
        Panel.of(work.validation, work.validation_table, REQUESTS),
        Panel.of(work.test, work.test_table, REQUESTS),
        (0, 1, 2),
        0.02,
        Run,
        {"version": "1"},
        Cells(tmp_path_factory.mktemp("cells")),
    )


CONTENDERS = [contender(ASCENT), contender(Retrain())]


@pytest.fixture(scope="module")
def cells(comparison: Comparison) -> dict[tuple[str, int], Cell]:
    return comparison.conduct(CONTENDERS, quiet)


def compared(
    comparison: Comparison, cells: dict[tuple[str, int], Cell], **changes: Any
) -> Compared:
    found = Compared(
        tuple(request.name for request in comparison.case.requests),
        metric_of(comparison.case.family),
        comparison.chance(),
        comparison.tolerance,
        comparison.seeds,
        comparison.retrains,
        tuple(CONTENDERS),
        cells,
        {"expunge": "1"},
    )
    return replace(found, **changes)


def digits_of(cells: dict[tuple[str, int], Cell]) -> dict[tuple[str, int], Any]:
    """Everything that was measured, without what a machine takes for it."""
    return {key: cell.content()["outcomes"] for key, cell in cells.items()}


def test_every_seed_has_a_base_and_an_oracle_of_its_own(
    cells: dict[tuple[str, int], Cell],
) -> None:
    for name in (ORIGINAL, ORACLE):
        assert len({cells[name, seed].outcomes[0].model for seed in (0, 1, 2)}) == 3
    for seed in (0, 1, 2):
        assert cells[ASCENT.name, seed].base == cells[ORIGINAL, seed].outcomes[0].model


def test_retraining_is_the_oracle_bit_for_bit(
    comparison: Comparison, cells: dict[tuple[str, int], Cell]
) -> None:
    found = compared(comparison, cells)
    for seed in (0, 1, 2):
        comes, matched = cells["retrain", seed].outcomes
        assert comes.model == matched.model == cells[ORACLE, seed].outcomes[0].model
        assert found.gap("retrain", seed, AS_IT_COMES) == 0.0
        gap = found.gap(ORIGINAL, seed, MATCHED)
        assert gap is not None
        assert gap > 0.3


def test_matched_models_keep_the_level_on_validation_rows(
    comparison: Comparison, cells: dict[tuple[str, int], Cell]
) -> None:
    for seed in (0, 1, 2):
        original = cells[ORIGINAL, seed].outcomes[0].validation
        comes, matched = cells[ASCENT.name, seed].outcomes
        assert comes.validation < original - comparison.tolerance  # far too strong as it comes
        assert matched.validation >= original - comparison.tolerance
        assert matched.factor < 1 == comes.factor


def test_the_same_seed_gives_the_same_digits(
    comparison: Comparison, cells: dict[tuple[str, int], Cell], tmp_path: Path
) -> None:
    again = replace(comparison, cells=Cells(tmp_path), seeds=(1,))
    torch.rand(5)
    found = again.conduct([CONTENDERS[0]], quiet)
    assert digits_of(found) == {key: digits_of(cells)[key] for key in found}


def test_test_rows_have_no_say_in_the_factor(
    comparison: Comparison, cells: dict[tuple[str, int], Cell], tmp_path: Path
) -> None:
    test = comparison.test
    assert isinstance(test.samples, TensorSamples)
    wrong = test.samples.with_column("label", (test.samples.columns["label"] + 1) % 10)
    other = replace(
        comparison, test=replace(test, samples=wrong), seeds=(0,), cells=Cells(tmp_path)
    )
    found = other.conduct([CONTENDERS[0]], quiet)[ASCENT.name, 0]
    before = cells[ASCENT.name, 0]
    assert [o.factor for o in found.outcomes] == [o.factor for o in before.outcomes]
    assert found.outcomes[0].scores.retained < 0.2 < before.outcomes[0].scores.retained


def stored_before(comparison: Comparison, contenders: list[Contender]) -> dict[str, bool]:
    told: dict[str, bool] = {}
    replace(comparison, seeds=(0,)).conduct(
        contenders, lambda name, seed, stored: told.update({name: stored})
    )
    return told


def test_finished_cells_are_used_again_and_come_back_as_they_were(
    comparison: Comparison, cells: dict[tuple[str, int], Cell]
) -> None:
    assert comparison.conduct(CONTENDERS, quiet) == cells
    assert set(stored_before(comparison, CONTENDERS).values()) == {True}


@pytest.mark.parametrize(
    "changed",
    [
        lambda c: replace(c, tolerance=0.05),
        lambda c: replace(c, setting={"version": "2"}),
        lambda c: replace(c, case=replace(c.case, strength=0.9)),
        lambda c: replace(c, case=replace(c.case, requests=REQUESTS[::-1])),
        lambda c: replace(c, test=replace(c.test, retained=c.test.retained[:50])),
    ],
    ids=["tolerance", "version", "strength", "order of requests", "test rows"],
)
def test_a_cell_of_another_comparison_is_not_used(
    changed: Callable[[Comparison], Comparison], comparison: Comparison, tmp_path: Path
) -> None:
    keys = {
        _only_key(c, tmp_path / str(i)) for i, c in enumerate([comparison, changed(comparison)])
    }
    assert len(keys) == 2


def _only_key(comparison: Comparison, folder: Path) -> str:
    """The key of the first seed's original, found without training anything."""
    asked: list[str] = []

    @dataclass(frozen=True)
    class Asked(Cells):
        def read(self, key: str) -> Cell | None:
            asked.append(key)
            return Cell()

    few = replace(comparison, cells=Asked(folder), seeds=(0,))
    few.conduct(CONTENDERS, quiet)
    return asked[0]


def test_other_parameters_or_other_code_are_another_cell_and_a_damaged_one_is_made_again(
    comparison: Comparison, cells: dict[tuple[str, int], Cell]
) -> None:
    other = replace(ASCENT, epochs=1)
    assert not stored_before(comparison, [contender(other)])[ASCENT.name]
    assert not stored_before(comparison, [contender(ASCENT, source="1")])[ASCENT.name]
    before = comparison.cells.folder
    for path in before.glob("*.json"):
        content = json.loads(path.read_text())
        if content["depends on"]["row"] == ASCENT.name and content["depends on"]["seed"] == 0:
            content["cell"]["outcomes"][0]["scores"]["retained"] = 0.999
            path.write_text(json.dumps(content))
    told = stored_before(comparison, CONTENDERS)
    assert told == {ORIGINAL: True, ORACLE: True, ASCENT.name: False, "retrain": True}
    assert digits_of(comparison.conduct(CONTENDERS, quiet)) == digits_of(cells)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"sha256": "x", "cell": 3}'])
def test_a_cell_that_cannot_be_read_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_bytes(content)
    assert Cells(tmp_path).read("key") is None
    assert Cells(tmp_path).read("missing") is None


@dataclass(frozen=True)
class Breaks(GradientAscent):
    name: ClassVar[str] = "breaks"

    def unlearn(self, problem: Any, artifact: Any, run: Any) -> Any:
        raise RuntimeError("out of memory\nand more")


@dataclass(frozen=True)
class NeedsMore(Breaks):
    name: ClassVar[str] = "needs-more"
    prepares_with: ClassVar[Access] = Access.to(Role.PRIOR)


def test_a_failing_method_is_a_row_that_says_so_and_the_others_go_on(
    comparison: Comparison, tmp_path: Path
) -> None:
    few = replace(comparison, seeds=(0, 1), cells=Cells(tmp_path))
    explodes = contender(GradientAscent(learning_rate=1e30), "explodes")
    chosen = [contender(Breaks()), explodes, CONTENDERS[0]]
    cells = few.conduct(chosen, quiet)
    found = compared(few, cells, contenders=tuple(chosen))
    rows = {row.name: row for row in found.rows(AS_IT_COMES)}
    assert rows["breaks"].note == "Failed on seeds 0, 1: RuntimeError: out of memory"
    assert "nan" in rows["explodes"].note
    assert rows["breaks"].columns[RETAINED] is None
    assert rows[ASCENT.name].note == ""
    failed = [r for r in found.records() if r["method"] == "breaks"]
    assert [r["value"] for r in failed] == [None] * 4
    assert not stored_before(few, chosen)["breaks"]  # tried again: it may have been the machine
    for text in (latex(found), page(found, "x", [])):
        assert "breaks" in text


def test_without_a_recipe_only_the_method_varies(comparison: Comparison, tmp_path: Path) -> None:
    case = replace(comparison.case, recipe=None)
    few = replace(comparison, case=case, seeds=(0, 1), cells=Cells(tmp_path))
    cells = few.conduct([CONTENDERS[0]], quiet)
    found = compared(few, cells, contenders=(CONTENDERS[0],))
    assert not found.has_oracle
    assert len({cells[ORIGINAL, seed].base for seed in (0, 1)}) == 1
    assert found.rows(AS_IT_COMES)[-1].columns[GAP] is None
    assert "only the seed of the method varies" in found.caption()
    assert "no oracle" in found.caption()
    given = replace(few, oracle=case.base, cells=Cells(tmp_path / "given"))
    found = compared(given, given.conduct([CONTENDERS[0]], quiet), contenders=(CONTENDERS[0],))
    assert found.gap(ORACLE, 0, AS_IT_COMES) == found.gap(ORIGINAL, 0, AS_IT_COMES) == 0


def test_the_records_hold_every_score_with_its_settings(
    comparison: Comparison, cells: dict[tuple[str, int], Cell]
) -> None:
    records = compared(comparison, cells).records()
    own = [r for r in records if r["method"] == ASCENT.name]
    assert len(own) == 3 * 2 * 5  # seeds, variants, two requests on two sets and what is retained
    assert {r["set"] for r in own} == {"held-out", "forget rows", "retained"}
    assert all(json.loads(str(r["parameters"]))["learning_rate"] == 2e-3 for r in own)
    kept = [r for r in own if r["set"] == "retained" and r["variant"] == AS_IT_COMES]
    outcomes = [cells[ASCENT.name, seed].outcomes[0] for seed in (0, 1, 2)]
    assert [r["value"] for r in kept] == [o.scores.retained for o in outcomes]
    assert {r["chance"] for r in own} == {0.1}


def test_means_spreads_and_tests_are_over_seeds(
    comparison: Comparison, cells: dict[tuple[str, int], Cell]
) -> None:
    found = compared(comparison, cells)
    [*_, ascent, _] = found.rows(AS_IT_COMES)
    kept = torch.tensor([cells[ASCENT.name, s].outcomes[0].scores.retained for s in (0, 1, 2)])
    spread = ascent.columns[RETAINED]
    assert spread is not None
    assert spread.sd is not None
    assert (spread.mean, spread.sd) == pytest.approx((float(kept.mean()), float(kept.std())))
    [pair] = found.tests(AS_IT_COMES)[GAP]
    gap = ascent.columns[GAP]
    assert gap is not None
    assert pair.difference == pytest.approx(gap.mean)
    assert pair.p == pair.holm == 0.25
    assert "No difference can be significant" in found.caution()
    assert "least 6 seeds" in found.caution()


def test_texts_are_escaped_and_the_page_asks_nothing_of_a_network(
    comparison: Comparison, cells: dict[tuple[str, int], Cell]
) -> None:
    names = (r"50% of <b>_x_</b>", r"C:\files & {more} #1 $2 ~^|")
    found = compared(comparison, cells, requests=names)
    html = page(found, "a <title>", [("file", "<script>alert(1)</script>")])
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
    assert "<script" not in html
    assert not re.search(r"(src|href)=|@import|url\(|https?:", html)
    assert "default-src 'none'" in html
    table = latex(found)
    assert r"50\% of \textless{}b\textgreater{}\_x\_\textless{}/b\textgreater{}" in table
    assert r"C:\textbackslash{}files \& \{more\} \#1 \$2 \textasciitilde{}" in table
    assert escaped("a\nb") == "a b"
    body = table.split(r"\toprule")[1].split(r"\bottomrule")[0]
    counts = {
        len(re.findall(r"(?<!\\)&", line))
        for line in body.splitlines()
        if line.endswith(r"\\") and not line.startswith(r"\multicolumn")
    }
    assert counts == {8}  # every row has as many cells as the heading


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Spread(0.9714, 0.0042, 3), "0.971 ± 0.004"),
        (Spread(0.9714, None, 1), "0.971"),
        (Spread(30292.28, 2374.9, 3), "30,292 ± 2,375"),
        (Spread(571.61, 0.5, 3), "571.6 ± 0.5"),
        (None, "–"),
    ],
)
def test_spreads_have_as_many_decimals_as_their_size_needs(found: Spread | None, text: str) -> None:
    assert spread_text(found) == text


def test_a_request_with_the_name_of_a_column_has_one_of_its_own(
    comparison: Comparison, cells: dict[tuple[str, int], Cell]
) -> None:
    found = compared(comparison, cells, requests=(RETAINED, "threes"))
    columns = found.rows(AS_IT_COMES)[0].columns
    assert list(columns) == found.columns()
    plain = compared(comparison, cells).rows(AS_IT_COMES)[0].columns
    assert columns[f"request {RETAINED}"] == plain["eights"]
    assert columns[RETAINED] == plain[RETAINED]


def test_a_method_that_does_not_fit_is_a_row_that_says_so_and_is_not_run(
    comparison: Comparison, tmp_path: Path
) -> None:
    few = replace(comparison, seeds=(0, 1), cells=Cells(tmp_path))
    unfit = contender(NeedsMore())
    chosen = [unfit, CONTENDERS[0]]
    told: list[str] = []
    cells = few.conduct(chosen, lambda name, seed, stored: told.append(name))
    assert unfit.name not in told
    found = compared(few, cells, contenders=tuple(chosen))
    [*_, row, _] = found.rows(AS_IT_COMES)
    assert found.caution() == "No two methods answered on one seed, so nothing was tested."
    assert row.note == "Does not fit: needs the prior set; there is forget, retain, train."
    with pytest.raises(ExpungeError, match="None of the methods fits"):
        few.conduct([unfit], quiet)


def test_many_requests_have_one_column(
    comparison: Comparison, cells: dict[tuple[str, int], Cell]
) -> None:
    many = tuple(f"request {i}" for i in range(7))
    assert compared(comparison, cells, requests=many).columns()[0] == "requests, mean"


@pytest.mark.parametrize(
    ("contenders", "seeds"),
    [([], (0,)), ([CONTENDERS[0]] * 2, (0,)), (CONTENDERS, (0, 0)), (CONTENDERS, ())],
)
def test_nothing_to_compare_or_the_same_twice_is_refused(
    contenders: list[Contender], seeds: tuple[int, ...], comparison: Comparison
) -> None:
    with pytest.raises(ExpungeError, match="at least one method"):
        replace(comparison, seeds=seeds).conduct(contenders, quiet)


class Linear(nn.Module):
    """A linear regression, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def rows_of(count: int, seed: int) -> tuple[TensorSamples, dict[str, list[str]]]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=generator)
    group = torch.arange(count) % 4
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + 2.0 * (group == 0)  # group 0 pulls the model away
    ids = [f"{seed}:{i}" for i in range(count)]
    samples = TensorSamples(ids, ids, {"image": x, "target": y})
    return samples, {"id": ids, "group": [str(int(g)) for g in group]}


class Columns(dict[str, list[str]]):
    """A table of columns in memory."""

    @property
    def column_names(self) -> list[str]:
        return list(self.keys())

    def __len__(self) -> int:
        return len(self["id"])


def test_for_errors_lower_is_better_and_matching_lets_them_grow_by_a_share(tmp_path: Path) -> None:
    (train, table), (held, held_table), (test, test_table) = (
        rows_of(n, s) for n, s in ((200, 0), (100, 1), (100, 2))
    )
    family = Regressor()
    recipe = Recipe(Linear, family, Plain(20), 0)
    base = recipe.make({Role.TRAIN: train}, Run()).model
    request = (Request("group 0", Rows("group", ("0",))),)
    case = Case.of(Deployment(base, family, train, Columns(table), Sum(), recipe=recipe), request)
    few = Comparison(
        case,
        Panel.of(held, Columns(held_table), request),
        Panel.of(test, Columns(test_table), request),
        (0, 1),
        0.1,
        Run,
        {},
        Cells(tmp_path),
    )
    strong = contender(GradientAscent(epochs=5, learning_rate=0.1), "strong")
    chosen = (strong, contender(FineTune(epochs=2, learning_rate=0.01)))
    cells = few.conduct(chosen, quiet)
    found = compared(few, cells, contenders=chosen)
    assert found.chance is None
    assert "lower is better" in found.caption()
    for seed in (0, 1):
        original = cells[ORIGINAL, seed].outcomes[0].validation
        comes, matched = cells["strong", seed].outcomes
        assert comes.validation > 1.1 * original
        assert matched.validation <= 1.1 * original
        assert matched.factor < 1
        gap = found.gap("strong", seed, AS_IT_COMES)
        assert gap is not None
        assert gap > (found.gap("strong", seed, MATCHED) or 0)
    check = measure(family, base, few.test, Run())
    assert check.metric.direction == "lower"
