"""Prompts and answers as rows of tokens, and back."""

import torch

from expunge.data.encoding import answer_tokens, padded, prompt_tokens


def test_rows_give_back_the_prompts_and_answers_that_they_were_made_of() -> None:
    prompts, answers = [[1, 2, 3], [], [4]], [[5], [6, 7], [8, 0, 9]]
    rows = padded(prompts, answers, padding=0, width=7)
    found = prompt_tokens(rows["input_ids"], rows["labels"])
    assert [prompt.tolist() for prompt in found] == prompts
    assert [answer.tolist() for answer in answer_tokens(rows["labels"])] == answers


def test_a_row_without_an_answer_has_neither() -> None:
    rows = padded([[1, 2], [3]], [[], [4]])
    assert [len(prompt) for prompt in prompt_tokens(rows["input_ids"], rows["labels"])] == [0, 1]
    assert answer_tokens(rows["labels"])[0].shape == torch.Size([0])
