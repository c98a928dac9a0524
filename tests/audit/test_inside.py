"""Inside: which models have features that a probe can be asked about."""

import torch

from expunge.audit.inside import reads_of
from expunge.audit.removal import Removal
from expunge.data import digits, own
from expunge.families.classifier import Classifier
from expunge.learning.sharded.ensemble import ShardEnsemble
from expunge.models.mlp import digits_classifier
from expunge.run import Run


def test_the_last_member_of_an_ensemble_does_not_speak_for_all() -> None:
    """A probe reads what makes the answers, or says that it read nothing."""
    table = digits.load()
    rows = own.samples(table, digits.tensors(table))
    train, held_out = rows.select(torch.arange(400)), rows.select(torch.arange(400, 800))
    eight = train.columns["label"] == 8
    forget, retain = (train.select(part.nonzero().reshape(-1)) for part in (eight, ~eight))
    one, other = digits_classifier(0), digits_classifier(1)
    removal = Removal("the eights", one, Classifier(classes=10), forget, retain, held_out, Run())
    found = reads_of(removal, one)
    assert found is not None
    assert 0.6 < found <= 1  # even random features tell an eight
    assert reads_of(removal, ShardEnsemble([one, other], [])) is None
