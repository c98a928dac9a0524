"""Judges of pictures: what they learn from, which real rows are compared, and the distances."""

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from expunge.benchmarks import digits_judge
from expunge.benchmarks.picture_judge import EACH, Gallery, jittered, judge_of, judged
from expunge.learning.supervised.plain import Plain
from expunge.run import Run


@functools.cache
def gallery() -> Gallery:
    """The digits with a judge that learns a little."""
    return Gallery(digits_judge.rows(), judge_of(10, 8, Plain(3)), copies=2)


@functools.cache
def judge() -> nn.Module:
    return gallery().judging(Run())


def test_the_judge_is_right_on_real_rows_and_on_no_upside_down_ones() -> None:
    right = gallery().right(judge())
    assert len(right) == 359 and right.double().mean() > 0.85
    rows = gallery().rows["test"]
    turned = replace(
        gallery(), rows={"test": rows.with_column("image", rows.columns["image"].flip(2))}
    )
    assert turned.right(judge()).double().mean() < 0.6


def test_rows_are_picked_evenly_or_anyhow_each_once() -> None:
    labels = gallery().rows["train"].columns["label"][:600]
    even = gallery().evenly(labels, Run().generator("even"))
    assert labels[even].bincount().tolist() == [EACH] * 10
    anyhow = gallery().anyhow(labels, Run().generator("anyhow"))
    counts = labels[anyhow].bincount()
    assert int(counts.sum()) == gallery().count == 10 * EACH and len(set(counts.tolist())) > 1
    assert all(len(set(rows.tolist())) == 10 * EACH for rows in (even, anyhow))


@pytest.mark.parametrize("how", ["evenly", "anyhow"])
def test_real_rows_are_as_near_as_the_floor_and_other_pictures_are_not(how: str) -> None:
    its = gallery()
    pick = getattr(its, how)
    held = its.rows["validation"].columns
    real = held["image"][pick(held["label"], Run().generator("drawn"))]

    def apart(pictures: Tensor) -> tuple[float, float]:
        return its.apart(judge(), pictures, pick)

    found, floor = apart(real)
    assert found < 2 * floor
    assert apart(real) == (found, floor)
    one_class = held["image"][held["label"] == 3].repeat(5, 1, 1, 1)
    for other in (real.flip(2), one_class):
        distance, same = apart(other)
        assert distance > 5 * floor and same == floor


def test_as_many_copies_as_are_asked_for_and_the_first_is_the_row_itself() -> None:
    rows = gallery().rows["validation"]
    for copies in (1, 3):
        more = jittered(rows, Run().generator("copies"), copies)
        assert len(more) == len(set(more.ids)) == copies * len(rows)
        assert torch.equal(more.columns["image"][: len(rows)], rows.columns["image"])
        assert torch.equal(more.columns["label"], rows.columns["label"].repeat(copies))


def test_pictures_are_judged_within_the_range_of_real_ones() -> None:
    image = gallery().rows["test"].columns["image"][:50]
    loud = judged(judge(), image * 9 - 4)
    cut = judged(judge(), (image * 9 - 4).clamp(0, 1))
    assert torch.equal(loud.features, cut.features)
