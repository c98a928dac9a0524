"""Which rows a removal takes: ids count within a table, and a split that leaks is refused."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from expunge.audit.audit import Audit
from expunge.audit.inquiry import Level
from expunge.audit.policy import Policy
from expunge.audit.references import References
from expunge.audit.removal import Removal
from expunge.data.samples import Samples, TensorSamples
from expunge.errors import ExpungeError

POLICY = Policy.of({"questions": ["forgotten", "kept", "private"]})


def numbered(rows: Samples, ids: Sequence[int]) -> TensorSamples:
    assert isinstance(rows, TensorSamples)
    return TensorSamples([str(one) for one in ids], rows.subjects, rows.columns)


@pytest.fixture(scope="module")
def per_split(removal: Removal) -> Removal:
    """The same rows in tables that are numbered from 0 each."""
    forget, count = len(removal.forget), len(removal.forget) + len(removal.retain)
    return replace(
        removal,
        forget=numbered(removal.forget, range(forget)),
        retain=numbered(removal.retain, range(forget, count)),
        held_out=numbered(removal.held_out, range(len(removal.held_out))),
    )


def test_tables_that_are_numbered_one_by_one_give_the_same_figures(
    removal: Removal, per_split: Removal
) -> None:
    assert set(per_split.held_out.ids) & set(per_split.forget.ids)
    both = []
    for rows in (removal, per_split):
        audited = Audit.of(rows, POLICY, Level.QUICK).ask(rows.before)
        both.append([(item.name, item.value) for v in audited.verdicts for item in v.evidence])
    assert both[0] == both[1]
    pool = References(per_split).pool
    assert len(set(pool.ids)) == len(pool)


def test_a_training_row_that_is_held_out_as_well_is_refused_in_one_sentence(
    per_split: Removal,
) -> None:
    leaked = per_split.retain.select(torch.arange(5))
    with pytest.raises(ExpungeError, match="The split leaks: 5 of the 5 held-out") as refused:
        replace(per_split, held_out=leaked, unseen=None)
    assert "\n" not in str(refused.value)


def test_a_training_row_under_another_id_is_said(per_split: Removal) -> None:
    held_out, retain = per_split.held_out, per_split.retain
    assert isinstance(held_out, TensorSamples)
    assert isinstance(retain, TensorSamples)
    columns = {n: c.clone() for n, c in held_out.columns.items()}
    for name, column in columns.items():
        column[:3] = retain.columns[name][:3]
    leaked = replace(per_split, held_out=replace(held_out, columns=columns), unseen=None)
    assert leaked.repeated == ("0", "1", "2")
    found = Audit.of(leaked, POLICY, Level.QUICK).ask(leaked.before).verdict("private")
    assert "3 held-out rows equal a training row" in found.notes[0]
    assert per_split.repeated == ()
