"""Layouts, orders of slices, and how many removals they last for."""

import itertools
import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from expunge.errors import ExpungeError
from expunge.learning.sharded.lasting import requests_until_retraining, rows_until_retraining
from expunge.learning.sharded.layout import Layout, Prefix
from expunge.learning.sharded.selection import BipartiteMatching, CyclicRotation
from expunge.learning.sharded.slices import ShardedSlices
from expunge.learning.sharded.tree import ROWS, SliceTree, rows_of
from expunge.recipe import Record

PRIOR = (0.4, 0.3, 0.2, 0.1)


def bare(shards: int, orders: Sequence[Prefix], ids: Sequence[str] = ()) -> SliceTree:
    """A tree of nodes that hold a number each."""
    layout = Layout(shards, len(orders[0]), tuple(orders), 0)
    nodes = {
        (shard, prefix): {"head": np_tensor(len(prefix))}
        for shard in range(shards)
        for prefix in layout.prefixes()
    }
    return SliceTree.of(layout, "test", nodes, {}, rows_of(ids))


def np_tensor(value: int) -> torch.Tensor:
    return torch.tensor([float(value)])


def served_requests(tree: SliceTree, chances: Sequence[float], draws: random.Random) -> list[int]:
    """By request, for a stream until nothing is left: the slices that serve in all shards."""
    layout, found = tree.layout, []
    while not tree.dead:
        shard = draws.randrange(layout.shards)
        [each] = draws.choices(range(layout.slices), chances)
        tree = SliceTree(tree.pruned(frozenset([(shard, each)])))
        found.append(sum(map(len, tree.served)))
    return found


@pytest.mark.parametrize(
    ("budget", "published"),
    [(1, 68.50), (2, 87.87), (3, 99.55), (4, 107.93), (5, 114.48), (6, 119.85), (9, 119.85)],
)
def test_the_formula_gives_the_published_means(budget: int, published: float) -> None:
    assert requests_until_retraining(5, 6, budget) == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize(("shards", "slices", "budget"), [(2, 3, 1), (2, 3, 3), (3, 4, 2)])
def test_pruned_trees_last_as_long_as_the_formula_says(
    shards: int, slices: int, budget: int
) -> None:
    tree = bare(shards, CyclicRotation().orders(slices, budget))
    draws = random.Random(0)
    lasted = [len(served_requests(tree, [1] * slices, draws)) for _ in range(400)]
    error = np.std(lasted) / len(lasted) ** 0.5
    assert abs(np.mean(lasted) - requests_until_retraining(shards, slices, budget)) < 3 * error


def test_orders_beyond_the_slices_bring_no_later_death_and_longer_beginnings() -> None:
    few, many = (bare(1, CyclicRotation().orders(4, budget)) for budget in (4, 24))
    streams = [
        [served_requests(tree, [1] * 4, random.Random(seed)) for seed in range(300)]
        for tree in (few, many)
    ]
    assert [len(s) for s in streams[0]] == [len(s) for s in streams[1]]
    assert sum(map(sum, streams[1])) > sum(map(sum, streams[0]))


def test_rows_are_drawn_from_those_that_are_left() -> None:
    # three rows in slices of one each: the one first slice goes at place 1, 2 or 3
    assert rows_until_retraining([1], 3) == 2
    assert rows_until_retraining([1, 1, 1], 3) == 3
    draws, sizes = random.Random(0), (2, 3, 4)
    places = []
    for _ in range(4000):
        order = list(range(12))
        draws.shuffle(order)
        ends = list(itertools.accumulate(sizes))
        slices = [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        places.append(max(min(order.index(row) + 1 for row in each) for each in slices))
    error = np.std(places) / len(places) ** 0.5
    assert abs(np.mean(places) - rows_until_retraining(sizes, 12)) < 3 * error
    many = rows_until_retraining([2000] * 6, 12 * 2000)
    assert many == pytest.approx(requests_until_retraining(3, 4, 2), rel=0.01)
    with pytest.raises(ExpungeError, match="at least one row in each"):
        rows_until_retraining([0, 3], 9)


def test_rotations_differ_at_every_position_and_go_on_to_all_orders() -> None:
    for slices in (3, 4, 6):
        orders = CyclicRotation().orders(slices, slices)
        assert all(len(set(column)) == slices for column in zip(*orders, strict=True))
    assert set(CyclicRotation().orders(4, 24)) == set(itertools.permutations(range(4)))
    assert CyclicRotation().orders(4, 7)[:4] == CyclicRotation().orders(4, 4)


def test_matching_is_a_latin_square_that_puts_likely_slices_last() -> None:
    orders = BipartiteMatching(PRIOR).orders(4, 4)
    assert all(len(set(line)) == 4 for line in [*orders, *zip(*orders, strict=True)])
    assert BipartiteMatching(PRIOR).orders(4, 1) == ((3, 2, 1, 0),)
    even = BipartiteMatching((0.25,) * 4).orders(4, 4)
    assert all(len(set(column)) == 4 for column in zip(*even, strict=True))


def test_a_known_prior_is_worth_nearly_three_times_the_service_of_the_worst_order() -> None:
    # 16.2 and 6.0 slices x requests for one order of one shard, 19.9 and 20.2 for all four
    def worth(orders: Sequence[Prefix]) -> float:
        draws, tree = random.Random(0), bare(1, orders)
        return float(np.mean([sum(served_requests(tree, PRIOR, draws)) for _ in range(1500)]))

    matched, worst = worth(BipartiteMatching(PRIOR).orders(4, 1)), worth([(0, 1, 2, 3)])
    assert matched > 2.3 * worst
    every = worth(BipartiteMatching(PRIOR).orders(4, 4)), worth(CyclicRotation().orders(4, 4))
    assert every[0] == pytest.approx(every[1], rel=0.1)


def test_a_row_is_placed_by_its_id_alone_and_shards_are_about_equal() -> None:
    layout = Layout(3, 4, ((0, 1, 2, 3),), 7)
    ids = [f"row {n}" for n in range(6000)]
    every = layout.placed(ids)
    assert sorted(np.concatenate([rows.tolist() for rows in every.values()])) == list(range(6000))
    assert all(400 < len(rows) < 600 for rows in every.values())
    fewer = layout.placed(ids[::2])
    for slot, rows in fewer.items():
        assert {ids[::2][row] for row in rows} == {ids[row] for row in every[slot]} & set(ids[::2])
    other = Layout(3, 4, ((0, 1, 2, 3),), 8)
    assert any(other.slot(name) != layout.slot(name) for name in ids[:10])


def test_storage_is_the_distinct_beginnings() -> None:
    orders = ((0, 1, 2), (0, 2, 1), (1, 0, 2))
    tree = bare(2, orders)
    assert len(tree.nodes) == 2 * 8  # not 2 x 9: two orders begin with 0
    assert tree.bytes() == 4 * len(tree.nodes)


def test_pruning_takes_what_saw_a_slice_and_leaves_the_rest() -> None:
    tree = bare(2, CyclicRotation().orders(3, 3))
    record = tree.pruned(frozenset([(0, 1), (0, 2)]))
    left = SliceTree(record)
    assert left.served == ((0,), (0, 1, 2))
    assert set(record.tensors) == {
        ROWS,
        "0:0/head",
        *(f"1:{'-'.join(map(str, p))}/head" for p in tree.layout.prefixes()),
    }
    again = left.pruned(frozenset([(0, 1)]))
    assert again.facts == record.facts


def test_only_rows_that_are_there_can_go_and_nothing_of_them_stays() -> None:
    ids = [f"row {n}" for n in range(40)]
    tree = bare(2, CyclicRotation().orders(3, 3), ids)
    assert tree.bytes() == 4 * len(tree.nodes) + 8 * len(ids)
    gone = ids[3], ids[20]
    left = SliceTree(tree.without(gone))
    assert left.nodes == SliceTree(tree.pruned(tree.slices_of(gone))).nodes
    others = [name for name in ids if name not in gone]
    assert torch.equal(left.rows.ids, rows_of(others).ids)
    for strange in ("row 40", ids[3]):  # one never added, and one that went before
        with pytest.raises(ExpungeError, match=f"'{strange}' is to be removed and is not there"):
            left.without([ids[5], strange])
    with pytest.raises(ExpungeError, match="'row 5' is given twice"):
        left.without([ids[5], ids[5]])
    with pytest.raises(ExpungeError, match="does not say which rows it was made of"):
        SliceTree(Record({}, tree.record.facts)).without(gone)


def test_more_shards_or_orders_than_there_can_be_are_refused() -> None:
    with pytest.raises(ExpungeError, match="29 rows were given for 5 shards of 6 slices; at least"):
        ShardedSlices().layout(0).check([str(n) for n in range(29)])
    # thirty shards of one slice and thirty rows: some shard gets none
    with pytest.raises(ExpungeError, match="none fell into shard"):
        ShardedSlices(30, 1, 1).layout(0).check([str(n) for n in range(30)])
    with pytest.raises(ExpungeError, match="0 shards of 6 slices"):
        ShardedSlices(shards=0)
    with pytest.raises(ExpungeError, match="7 orders of 3 slices were asked for; there are from 1"):
        ShardedSlices(slices=3, budget=7)
    with pytest.raises(ExpungeError, match="3 orders of 3 slices were asked for with a prior over"):
        ShardedSlices(slices=3, budget=3, selection=BipartiteMatching(PRIOR))
    with pytest.raises(ExpungeError, match="5 orders of 4 slices"):
        ShardedSlices(slices=4, budget=5, selection=BipartiteMatching(PRIOR))
    with pytest.raises(ExpungeError, match="1 in sum"):
        BipartiteMatching((0.5, 0.6))
    with pytest.raises(ExpungeError, match=r"The order \[0, 0\] of 2 slices"):
        Layout(1, 2, ((0, 0),), 0)
    with pytest.raises(ExpungeError, match="0 orders were given; 1 is the least"):
        requests_until_retraining(1, 1, 0)
    with pytest.raises(ExpungeError, match="record of a sharded learner is needed"):
        SliceTree(Record({}, {"shards": 3}))
