"""Attacks on language models: what they bring out of a model that only hides facts, and of one that
never knew them."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.attacks.known_facts import ROWS, WORLD, knowing, oracle
from torch import nn

from expunge.attacks.logit_lens import logit_lens
from expunge.attacks.paraphrase import asked_in_ways
from expunge.attacks.prefixes import (
    Template,
    around,
    begun,
    behind_examples,
    behind_words,
    repeated,
    templates,
)
from expunge.attacks.quantisation import quantised
from expunge.attacks.relearning import Relearning
from expunge.attacks.state_probe import StateProbe
from expunge.benchmarks.attacks.rows import by_kind, fact_of, kind_of
from expunge.benchmarks.facts.people import END
from expunge.data.encoding import IGNORED, Lines, Parts
from expunge.data.samples import TensorSamples
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError, IntegrityError
from expunge.run import Run
from expunge.signals.ask import ask

FORGOTTEN = ROWS.forgotten
KINDS = [kind_of(row) for row in FORGOTTEN.ids]


def share(model: nn.Module, rows: TensorSamples = FORGOTTEN) -> float:
    return float(ask(WORLD.family, model, rows, Run()).query("correct").double().mean())


def line(rows: TensorSamples, row: int) -> tuple[str, str]:
    """Prompt and answer of a row in words."""
    ids, labels = rows.columns["input_ids"][row], rows.columns["labels"][row]
    start = int((labels != IGNORED).int().argmax())
    words = WORLD.people.text
    return words(ids[:start].tolist()), words(labels[labels != IGNORED].tolist())


def with_other_head(model: nn.Module) -> nn.Module:
    """The model with a head that names the word after the right one: it answers nothing."""
    edited: Any = copy.deepcopy(model)
    own = edited.get_input_embeddings().weight.detach()
    edited.lm_head.weight = nn.Parameter(own.roll(1, 0).clone())
    found: nn.Module = edited.eval()
    return found


def with_last_layer_turned(model: nn.Module, factor: float = -20) -> nn.Module:
    """The model with a last layer that writes against what the layers before it say."""
    edited: Any = copy.deepcopy(model)
    with torch.no_grad():
        edited.model.layers[-1].mlp.down_proj.weight.mul_(factor)
    found: nn.Module = edited.eval()
    return found


def probed(model: nn.Module) -> float:
    found = StateProbe().readings(WORLD.family, model, *ROWS.probing, FORGOTTEN, Run())
    return found[-1].share


def test_the_lens_after_the_last_layer_is_the_plain_answer() -> None:
    lens = logit_lens(WORLD.family, knowing(), FORGOTTEN, Run())
    plain = ask(WORLD.family, knowing(), FORGOTTEN, Run()).query("correct")
    assert torch.equal(lens.correct[-1].double(), plain.reshape(-1).double())
    assert lens.shares[0] < lens.shares[-1] == 1
    assert bool((lens.rank[-1] == 1).all())


def test_the_lens_reads_what_a_last_layer_turns_away_and_nothing_of_an_oracle() -> None:
    hiding, never = (with_last_layer_turned(model) for model in (knowing(), oracle()))
    assert share(hiding) <= 0.1
    before = copy.deepcopy(hiding.state_dict())
    assert max(logit_lens(WORLD.family, hiding, FORGOTTEN, Run()).shares) >= 0.9
    assert max(logit_lens(WORLD.family, never, FORGOTTEN, Run()).shares) <= 0.15
    assert all(torch.equal(before[name], value) for name, value in hiding.state_dict().items())


def test_a_probe_learned_on_retained_facts_reads_behind_an_edited_head() -> None:
    hiding, never = with_other_head(knowing()), with_other_head(oracle())
    assert share(hiding) == 0
    assert max(logit_lens(WORLD.family, hiding, FORGOTTEN, Run()).shares) <= 0.15
    assert probed(hiding) >= 0.5
    assert probed(never) <= 0.15


def test_a_probe_does_not_learn_from_what_it_reads() -> None:
    learned, validation = ROWS.probing
    with pytest.raises(ExpungeError, match="two of the sets"):
        StateProbe().readings(WORLD.family, oracle(), learned, validation, learned, Run())
    with pytest.raises(ExpungeError, match="positive"):
        StateProbe(())
    empty = FORGOTTEN.select(torch.arange(0))
    with pytest.raises(ExpungeError, match="0 to read"):
        StateProbe().readings(WORLD.family, oracle(), learned, validation, empty, Run())


def test_prefixes_leave_question_and_answer_as_they_are() -> None:
    words = WORLD.people.tokens("i do not know").tolist()
    rows = around(FORGOTTEN, words, words)
    for row in (0, 5, 17):
        prompt, answer = line(FORGOTTEN, row)
        assert line(rows, row) == (f"i do not know {prompt} i do not know", answer)
        assert line(repeated(FORGOTTEN, 3), row) == (" ".join([prompt] * 3), answer)
    assert rows.ids == FORGOTTEN.ids
    for same in (around(FORGOTTEN), repeated(FORGOTTEN, 1)):
        assert [line(same, i) for i in range(18)] == [line(FORGOTTEN, i) for i in range(18)]
        assert share(knowing(), same) == share(knowing()) == 1


def test_examples_are_of_the_same_kind_about_people_who_were_not_forgotten() -> None:
    examples = by_kind(ROWS.retained)
    rows = behind_examples(FORGOTTEN, KINDS, examples, 2)
    told = {
        kind: [line(samples, i) for i in range(len(samples))] for kind, samples in examples.items()
    }
    for row, kind in enumerate(KINDS):
        whole, answer = line(rows, row)
        prompt, own = line(FORGOTTEN, row)
        shown = whole.removesuffix(prompt)
        assert answer == own
        assert shown.count("<end>") == 2
        assert sum(f"{p} {a} " in shown for p, a in told[kind]) == 2
    again = behind_examples(FORGOTTEN, KINDS, examples, 2)
    assert torch.equal(rows.columns["input_ids"], again.columns["input_ids"])
    with pytest.raises(ExpungeError, match="the kind with fewest has 24"):
        behind_examples(FORGOTTEN, KINDS, examples, 25)
    with pytest.raises(ExpungeError, match="among their own examples"):
        behind_examples(ROWS.retained, [kind_of(r) for r in ROWS.retained.ids], examples, 1)


def test_a_begun_answer_is_answered_where_the_whole_one_is_and_chance_is_higher() -> None:
    rows = begun(FORGOTTEN)
    lengths = [len(line(FORGOTTEN, i)[1].split()) for i in range(18)]
    assert len(rows) == sum(length > 2 for length in lengths) < 18
    assert share(knowing(), rows) == 1
    assert all(line(rows, i)[1].split() for i in range(len(rows)))
    whole = {name: line(FORGOTTEN, i) for i, name in enumerate(FORGOTTEN.ids)}
    for row, name in enumerate(rows.ids):
        prompt, answer = line(rows, row)
        assert f"{prompt} {answer}" == " ".join(whole[name])
    with pytest.raises(ExpungeError, match="0 of them have more"):
        begun(FORGOTTEN, 5)


def test_a_fact_counts_once_however_many_ways_bring_it_out() -> None:
    ways = {"plain": FORGOTTEN, **ROWS.phrased()}
    found = asked_in_ways(WORLD.family, knowing(), ways, Run(), fact_of)
    assert found.share == 1
    assert len(found.facts) == 18
    assert {way: found.asked[way] for way in ways} == {
        "plain": 18,
        "second phrasing": 18,
        "paraphrase, trained": 9,
        "paraphrase": 9,
    }
    never = asked_in_ways(WORLD.family, oracle(), ways, Run(), fact_of)
    assert never.share <= 0.15
    assert never.any == frozenset().union(*never.answered.values())
    with pytest.raises(ExpungeError, match="0 ways"):
        asked_in_ways(WORLD.family, oracle(), {}, Run())


def test_sixteen_bits_answer_as_the_weights_do_and_two_bits_do_not() -> None:
    plain = ask(WORLD.family, knowing(), FORGOTTEN, Run())
    fine = ask(WORLD.family, quantised(knowing(), 16), FORGOTTEN, Run())
    assert torch.equal(plain.query("correct"), fine.query("correct"))
    torch.testing.assert_close(plain.query("loss"), fine.query("loss"), atol=1e-3, rtol=0)
    coarse = ask(WORLD.family, quantised(knowing(), 2), FORGOTTEN, Run())
    assert coarse.query("loss").mean() > plain.query("loss").mean() + 0.5


def test_relearning_begins_at_the_plain_score_and_brings_back_what_was_turned_away() -> None:
    """Nothing forgotten is shown: rows about other people turn the last layer back."""
    attack = Relearning(20, 64, AdamW(1e-3))
    hiding = with_last_layer_turned(knowing(), -2)
    curves = {
        model: attack.curve(model, WORLD.family, ROWS.retained, FORGOTTEN, Run())
        for model in (hiding, oracle())
    }
    for model, curve in curves.items():
        assert curve[0] == share(model)
    assert max(curves[hiding]) >= curves[hiding][0] + 0.3
    assert max(curves[oracle()]) <= 0.15


class Words:
    """A tokenizer of words that joins prompt, separator and answer."""

    context, padding = None, 0

    def lines(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        separator: str,
        chat: bool,
        parts: Parts = (),
    ) -> Lines:
        tokens = WORLD.people.tokens
        return Lines(
            [tokens(prompt + separator).tolist() for prompt in prompts],
            [[*tokens(answer).tolist(), END] for answer in answers],
            1,
        )


def test_shipped_prefixes_have_a_place_for_the_question_and_give_no_part_of_the_answer() -> None:
    found = templates()
    assert len(set(found)) == len(found) >= 10
    assert any(template.beginning for template in found)
    for template in found:
        [prompt] = template.prompts(["where was she born ?"], "\n")
        assert "where was she born ?" in prompt
        assert "{}" not in prompt
        assert prompt.endswith(template.beginning)


def test_words_stand_around_a_question_and_an_answer_that_was_begun() -> None:
    question, answer = "where was {} born ?", WORLD.people.everybody[0].facts["work"]
    template = Template.of("name the job of {} i do not\tthe favourite dish")
    rows = behind_words(["a"], [question], [answer], template, Words(), " ")
    prompt, told = line(rows, 0)
    assert prompt.endswith("born ? i do not the favourite dish")
    assert told == f"{answer} <end>"
    open_ended = behind_words(["a"], [question], [answer], template, Words(), " ", ended=False)
    assert line(open_ended, 0) == (prompt, answer)
    with pytest.raises(ExpungeError, match="in a chat"):
        behind_words(["a"], [question], [answer], template, Words(), " ", chat=True)


def test_prefixes_of_ones_own_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    with pytest.raises(IntegrityError, match="cannot be read"):
        templates(path)
    path.write_text("\n \n")
    with pytest.raises(ExpungeError, match="no line"):
        templates(path)
    path.write_text("{} please\nplease\n")
    with pytest.raises(ExpungeError, match=r"'please' has no \{\}"):
        templates(path)
    path.write_text("  {} please \n\n{}\tyes, \n")
    assert templates(path) == (Template("{} please"), Template("{}", "yes,"))
