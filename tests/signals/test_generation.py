"""Greedy generation: the tokens of each prompt alone, whatever stands beside it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.families.language import IGNORED, Language
from expunge.models.tiny_llama import TinyLlama
from expunge.run import Run
from expunge.signals.ask import answers_of
from expunge.signals.generation import generated

VOCABULARY, END = 40, 1


def prompts(count: int = 9) -> list[list[int]]:
    draw = torch.Generator().manual_seed(5)
    lengths = torch.randint(2, 6, (count,), generator=draw).tolist()
    return [torch.randint(2, VOCABULARY, (n,), generator=draw).tolist() for n in lengths]


def models() -> list[nn.Module]:
    torch.manual_seed(0)
    gpt = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    return [TinyLlama(VOCABULARY, layers=2, width=32, inner=48)(0), GPT2LMHeadModel(gpt).eval()]


@pytest.mark.parametrize("model", models(), ids=["llama", "gpt2"])
def test_batched_with_a_cache_is_one_by_one_without(model: Any) -> None:
    found = generated(model, prompts(), Run(), most=8, end=(END,), batch_size=4)
    for prompt, answer in zip(prompts(), found, strict=True):
        ids, alone = list(prompt), list[int]()
        for _ in range(8):
            with torch.no_grad():
                token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token == END:
                break
            alone.append(token)
            ids.append(token)
        assert answer == alone
    assert found == generated(model, prompts(), Run(), most=8, end=(END,))


class WithoutCache(nn.Module):
    """Keeps no keys and values: the next token is the number of tokens read, until it is 7."""

    def forward(self, input_ids: Tensor, **ignored: object) -> Any:
        read = torch.full(input_ids.shape, input_ids.shape[1])
        logits = torch.nn.functional.one_hot(read, VOCABULARY).float()
        return type("Answer", (), {"logits": logits})()


def test_a_model_without_a_cache_reads_the_whole_text_again() -> None:
    found = generated(WithoutCache(), [[9, 9], [9, 9, 9, 9]], Run(), most=10, end=(7,))
    assert found == [[2, 3, 4, 5, 6], [4, 5, 6]]
    assert generated(WithoutCache(), [[9]], Run(), most=2) == [[1, 2]]


def test_what_is_known_by_heart_is_generated_as_it_is_scored() -> None:
    questions = prompts(6)
    answers = [[3 + row, 20 + row, 10, END] for row in range(6)]
    width = max(len(q) + len(a) for q, a in zip(questions, answers, strict=True))
    ids, labels = torch.zeros(6, width).long(), torch.full((6, width), IGNORED)
    for row, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        end = len(question) + len(answer)
        ids[row, :end] = torch.tensor(question + answer)
        labels[row, len(question) : end] = torch.tensor(answer)
    names = [str(row) for row in range(6)]
    samples = TensorSamples(names, names, {"input_ids": ids, "labels": labels})
    family, model = Language(), TinyLlama(VOCABULARY, layers=2, width=32, inner=48)(0)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        family.losses(model, samples.batch(torch.arange(6))).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    _, hits = answers_of(family, model, samples, Run())
    assert bool((hits.means() == 1).all())  # the most likely tokens after the true ones
    assert generated(model, questions, Run(), most=9, end=(END,)) == [a[:-1] for a in answers]


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ExpungeError, match="1 empty"):
        generated(WithoutCache(), [[], [1]], Run(), most=2)
