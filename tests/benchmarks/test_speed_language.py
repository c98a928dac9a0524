"""Speed of language models: that both trainers compute the same, and not how fast they are."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from expunge.benchmarks import speed_language
from expunge.data.samples import TensorSamples
from expunge.families.language import IGNORED


def rows(count: int) -> TensorSamples:
    """Lines of many lengths in the place of WordNet's descriptions, which are fetched."""
    draws = torch.Generator().manual_seed(0)
    ids, labels = [], []
    for _ in range(count):
        asked, said = (
            int(torch.randint(low, high, (), generator=draws)) for low, high in ((2, 6), (2, 40))
        )
        line = torch.randint(2, speed_language.VOCABULARY, (asked + said,), generator=draws)
        ids.append(line)
        labels.append(torch.cat([torch.full((asked,), IGNORED), line[asked:]]))
    names = [str(i) for i in range(count)]
    columns = {
        "input_ids": pad_sequence(ids, batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }
    return TensorSamples(names, names, columns)


def test_the_trainers_agree_and_the_ceilings_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_language, "_rows", rows)
    found = speed_language.run(width=16, layers=1, steps=1)
    retain, divergence = found["forms"]
    for form in (retain, divergence):
        assert form["difference"] <= speed_language.EQUAL
        assert form["operations"][0] > form["operations"][1]
    # seven forward passes' worth against six, and eight against six, a little less with the head,
    # which the divergence reads from states in both
    assert 1.05 < retain["ceiling"] < 7 / 6 + 0.01
    assert 1.05 < divergence["ceiling"] < 8 / 6 + 0.01
    assert retain["bytes saved"] > 0.95
    padded, grouped = found["lengths"]
    assert grouped["padding"] < padded["padding"]
    assert len(speed_language.tables(found)) == 2
