"""The judge of drawn digits, and the scikit-learn digits that it learns from."""

import functools
from collections.abc import Mapping

from expunge.benchmarks.picture_judge import Gallery, judge_of
from expunge.data import digits, own
from expunge.data.samples import TensorSamples
from expunge.descent.optimisers import AdamW, Cosine
from expunge.learning.supervised.plain import Plain

NAMES = tuple("0123456789")

JUDGE = judge_of(
    len(NAMES), digits.SIDE, Plain(12, 64, AdamW(2e-3, weight_decay=0.01, schedule=Cosine()))
)
"""How a judge is made."""


@functools.cache
def rows() -> Mapping[str, TensorSamples]:
    """The digits by split, ``train``, ``validation`` and ``test``; read once a process."""
    tables = {split: digits.load(split) for split in ("train", "validation", "test")}
    return {split: own.samples(table, digits.tensors(table)) for split, table in tables.items()}


def gallery() -> Gallery:
    """The digits with their judge; 20 of a class, since few are left that nobody learned from."""
    return Gallery(rows(), JUDGE, each=20)
