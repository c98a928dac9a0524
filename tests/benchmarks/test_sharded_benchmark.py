"""The benchmark of S3T and SISA: what it reads of trained models is what these models do."""

from pathlib import Path

import pytest
import torch

from expunge.benchmarks.sharded import tables, work
from expunge.benchmarks.sharded.protocol import Protocol
from expunge.benchmarks.sharded.room import room
from expunge.benchmarks.sharded.work import ASKED, ONE_ORDER, S3T, Place, Reading
from expunge.errors import ExpungeError
from expunge.learning.sharded.ensemble import ShardEnsemble
from expunge.learning.sharded.tree import SliceTree
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask

RATES = tuple((kind, rates[-1]) for kind, rates in work.RATES.items())


def test_the_rows_of_a_room_have_nothing_in_common() -> None:
    its = room("digits")
    parts = [set(part.ids) for part in (its.public, its.private, its.validation, its.test)]
    assert len(set.union(*parts)) == sum(map(len, parts))


def test_what_is_no_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="no room 'emoji' here; there are clothes, digits"):
        Protocol(tmp_path, "emoji")
    with pytest.raises(ExpungeError, match=r"11 rows were asked for .* at least 12 are expected"):
        Protocol(tmp_path, "digits", rows=11)


def test_what_a_seed_shows_is_what_its_models_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "SHORT", 1)
    monkeypatch.setattr(work, "LONG", 1)
    its = room("digits", 96)
    seeds = [Reading(Place("digits", 96, its.digest, tmp_path), RATES, 0, 4)]
    found = seeds[0].done()
    trained = seeds[0].training(S3T).trained()
    assert trained.record is not None
    tree, model = SliceTree(trained.record), trained.model
    assert isinstance(model, ShardEnsemble)

    def of(model: torch.nn.Module) -> float:
        return float(accuracy(ask(its.family, model, its.test, Run()))[0])

    assert found["streams"]["S3T, B = 4"]["accuracy"][0] == pytest.approx(of(model))
    one = work.within(tree, 1)  # the one order is trained alike, whatever others are beside it
    alone = seeds[0].training(ONE_ORDER).trained()
    assert of(model.serving(one)) == of(alone.model)
    left = SliceTree(tree.pruned(frozenset(ASKED)))
    after = found["asked"]["S3T, B = 4: after the removal"]
    assert after["test"] == of(model.serving(left))
    leaking = work.newest_heads(model.serving(left), tree, left.served)
    heads = [m.head.weight for m in leaking.members]  # type: ignore[union-attr]
    for shard, prefix in enumerate(left.served):
        [order] = [o for o in tree.layout.orders if o[: len(prefix)] == prefix]
        assert torch.equal(heads[shard], tree.own((shard, order))["head.weight"])
    assert found["storage"]["S3T, B = 4"]["nodes"] == 3 * 16
    assert found["storage"]["SISA, not retrained"]["nodes"] == 3 * 4
    assert min(found["streams"]["S3T, B = 4"]["lasted"]) >= 12  # each first slice takes a request

    result = {
        "room": "digits",
        "rows": {"private": 96, "test": len(its.test)},
        "shards": 3,
        "rates": dict(RATES),
        "by seed": [found, found],
    }
    shown = tables.tables(result)
    assert [len(columns) for _, columns, _ in shown] == [len(rows[0]) for _, _, rows in shown]
    ahead = tables.verdicts(result)[1]
    both = ("S3T, B = 4", "SISA, not retrained")
    mine, sisa = (found["streams"][name]["accuracy"] for name in both)
    assert ("yes" in ahead) == all(a >= b for a, b in zip(mine, sisa, strict=True))
