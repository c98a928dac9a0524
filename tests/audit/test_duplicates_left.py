"""Near copies among retained rows, beside held-out rows that repeat training rows themselves."""

from dataclasses import replace

import torch

from expunge.audit.audit import Audit
from expunge.audit.inquiry import Level
from expunge.audit.policy import Policy
from expunge.audit.removal import Removal
from expunge.audit.self_test import _table
from expunge.audit.verdict import Result, Verdict
from expunge.data.samples import TensorSamples

POLICY = Policy.of({"questions": ["duplicates left"]})


def with_noise(
    rows: TensorSamples, places: range, copied: TensorSamples, noise: float
) -> TensorSamples:
    """The rows, those at some places replaced by noisy copies of the first rows of another set."""
    images = rows.columns["image"].clone()
    like = copied.columns["image"][: len(places)]
    draws = torch.Generator().manual_seed(0)
    images[list(places)] = (like + noise * torch.randn(like.shape, generator=draws)).clamp(0, 1)
    return rows.with_column("image", images)


def asked(removal: Removal, retain: TensorSamples, held_out: TensorSamples) -> Verdict:
    assert isinstance(removal.forget, TensorSamples)
    forget = removal.forget
    columns = {n: torch.cat([c, retain.columns[n]]) for n, c in forget.columns.items()}
    train = TensorSamples([*forget.ids, *retain.ids], [*forget.subjects, *retain.subjects], columns)
    changed = replace(
        removal,
        retain=retain,
        held_out=held_out,
        searched=_table("train", train),
        forget_rows=torch.arange(len(forget)),
        unseen=_table("held-out", held_out),
    )
    return Audit.of(changed, POLICY, Level.QUICK).ask(removal.before).verdict("duplicates left")


def test_held_out_rows_that_repeat_training_rows_hide_no_copy(removal: Removal) -> None:
    forget, retain, held_out = removal.forget, removal.retain, removal.held_out
    assert isinstance(forget, TensorSamples)
    assert isinstance(retain, TensorSamples)
    assert isinstance(held_out, TensorSamples)
    planted = with_noise(retain, range(500, 503), forget, 0.02)
    leaked = with_noise(held_out, range(20), retain, 0.002)
    for rows in (held_out, leaked):
        found = asked(removal, planted, rows)
        assert found.result is Result.FAIL
        copies = {copy["id"]: copy["of"] for copy in found.evidence[0].details["copies"]}
        assert copies == dict(zip(retain.ids[500:503], forget.ids[:3], strict=True))
    assert "without 20 of the held-out rows" in " ".join(found.notes)
    assert found.evidence[0].details["held-out repeats"] == sorted(held_out.ids[:20])
    assert asked(removal, retain, leaked).result is Result.PASS
