"""Other answers: drawn from the model's own, none of them the true one."""

from collections import Counter
from itertools import product

import torch

from expunge.data.samples import Batch
from expunge.families.language import IGNORED, Language
from expunge.families.sampling import end_of, other_answers
from expunge.models.tiny_llama import TinyLlama
from expunge.recipe import Role
from language_facts import END, FAMILY, QUESTIONS, problem, tokens


def everything(role: Role) -> Batch:
    samples = problem().data[role]
    return samples.batch(torch.arange(len(samples)))


def test_they_are_drawn_from_the_models_answers_that_are_not_the_true_one() -> None:
    words, temperature, count = 5, 0.03, 20_000
    model = TinyLlama(words, 1, 8, 2, 8, 8)(0)
    with torch.no_grad():
        rows = torch.tensor([[2, first] for first in range(words)])
        likely = (model(input_ids=rows).logits / temperature).softmax(2)
        pairs = {
            (a, b): float(likely[0, 0, a] * likely[a, 1, b])
            for a, b in product(range(words), repeat=2)
        }
        true = max(pairs, key=lambda pair: pairs[pair])
        batch = {
            "input_ids": torch.tensor([[2, *true]]),
            "labels": torch.tensor([[IGNORED, *true]]),
        }
        family, draws = Language(overhead=None), torch.Generator().manual_seed(0)
        drawn = other_answers(family, model, batch, count, temperature, None, draws)
    known = pairs.pop(true)
    assert 0.2 < known < 0.99
    seen = Counter(tuple(answer.tolist()) for answer in drawn)
    assert set(seen) <= set(pairs)
    far = sum(abs(seen[pair] / count - p / (1 - known)) for pair, p in pairs.items())
    assert far / 2 < 0.02  # total variation


def test_a_model_that_knows_its_answers_by_heart_still_gives_others_and_they_end() -> None:
    batch, model = everything(Role.TRAIN), problem().model
    fitting = []
    for temperature in (0.1, 1.0):
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():
            drawn = other_answers(FAMILY, model, batch, 5, temperature, END, draws)
        assert len(drawn) == 5 * len(batch["labels"])
        said = 0
        for i, answer in enumerate(drawn):
            labels = batch["labels"][i // 5]
            assert answer.tolist() != labels[labels != IGNORED].tolist()
            assert answer[-1] == END
            assert END not in answer[:-1].tolist()
            of_the_kind = list(QUESTIONS.values())[i // 5 % 3]
            said += answer.tolist() in [[*tokens(text), END] for text in of_the_kind]
        fitting.append(said / len(drawn))
    assert fitting[0] > fitting[1] > 0.2  # a random word fits once in dozens


def test_what_ends_an_answer() -> None:
    model = problem().model
    ends = torch.tensor([[IGNORED, 4, END], [IGNORED, 5, END]])
    assert end_of(model, ends) == END
    assert end_of(model, ends[:1]) == END  # the config names it
    same = torch.tensor([[IGNORED, 4, 9], [4, 9, IGNORED]])
    assert end_of(model, same) is None  # one answer, whose last word ends nothing
    assert end_of(model, torch.tensor([[IGNORED, 4, 9], [IGNORED, 5, 9]])) == 9
    assert end_of(model, torch.tensor([[IGNORED, 4, 9], [IGNORED, 5, 8]])) is None
