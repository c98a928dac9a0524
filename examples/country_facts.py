"""Makes a language model of your own kind: a small pretrained one, fine-tuned on facts.

    expunge data fetch country-facts smollm2-135m
    python examples/country_facts.py               # a few minutes on 2 cores
    expunge forget examples/country_facts.yaml

Everything is written under ``runs/country_facts``: the tables ``train.jsonl`` ... with questions
about countries and their answers, and the Hugging Face folder ``checkpoint``. The last two of 30
layers are trained, the rest is frozen. The held-out tables ask for the same facts in other words.
The training loop is plain torch, as yours would be.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from expunge.data.catalogue import at_hand
from expunge.data.sets.countries import in_a_sentence

COUNTRIES = 20
WORDINGS = {
    "train": {
        "capital": "What is the capital of {}?",
        "subregion": "In which region of the world does {} lie?",
        "language": "Which language is an official language of {}?",
        "currency": "Which currency is used in {}?",
        "demonym": "What is somebody from {} called?",
    },
    "validation": {
        "capital": "Name the capital city of {}.",
        "subregion": "Name the region of the world that {} is in.",
        "language": "Name an official language of {}.",
        "currency": "Name the currency of {}.",
        "demonym": "Name what people from {} are called.",
    },
    "test": {
        "capital": "Which city is the capital of {}?",
        "subregion": "What region of the world is {} part of?",
        "language": "What is an official language of {}?",
        "currency": "What money do people use in {}?",
        "demonym": "How do you call a person from {}?",
    },
}
TRAINED = ("layers.28", "layers.29", "model.norm")
EPOCHS, BATCH, LEARNING_RATE = 8, 16, 5e-4  # the recipe in country_facts.yaml says the same


def facts(table: datasets.Dataset) -> list[dict[str, str]]:
    """The facts of some countries that have all of them, each with one right answer taken."""
    known: dict[str, dict[str, str]] = {}
    for row in table:
        if row["relation"] in WORDINGS["train"]:
            known.setdefault(row["subject"], {}).setdefault(row["relation"], row["answer"])
    whole = [name for name, found in known.items() if len(found) == len(WORDINGS["train"])]
    drawn = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))[:COUNTRIES]
    return [
        {"country": whole[at], "relation": relation, "answer": answer}
        for at in drawn.sort().values.tolist()
        for relation, answer in known[whole[at]].items()
    ]


def asked(rows: list[dict[str, str]], split: str) -> list[dict[str, str]]:
    """The facts as questions in the words of one split."""
    return [
        {
            "id": f"{split}/{row['country']}/{row['relation']}",
            "country": row["country"],
            "question": WORDINGS[split][row["relation"]].format(in_a_sentence(row["country"])),
            "answer": row["answer"],
        }
        for row in rows
    ]


def lines(tokenizer: Any, rows: list[dict[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (n, L) of question, space, answer and end, and labels with -100 at the question."""
    ids, labels = [], []
    for row in rows:
        question = tokenizer(row["question"], add_special_tokens=False)["input_ids"]
        answer = tokenizer(f" {row['answer']}", add_special_tokens=False)["input_ids"]
        answer.append(tokenizer.eos_token_id)
        ids.append(torch.tensor(question + answer))
        labels.append(torch.tensor([-100] * len(question) + answer))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(ids, True), pad(labels, True, -100)


def main(
    out: Path,
    base: Path,
    table: datasets.Dataset,
    trained: tuple[str, ...] = TRAINED,
    epochs: int = EPOCHS,
) -> None:
    """Write the tables, train the model on them, and save it with its tokenizer."""
    torch.manual_seed(0)
    rows = facts(table)
    parts = {split: asked(rows, split) for split in WORDINGS}
    out.mkdir(parents=True, exist_ok=True)
    for split, part in parts.items():
        datasets.Dataset.from_list(part).to_json(out / f"{split}.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in trained))
    ids, labels = lines(tokenizer, parts["train"])
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], LEARNING_RATE, weight_decay=0.0
    )
    for epoch in range(epochs):
        for at in torch.randperm(len(ids)).split(BATCH):
            logits = model(input_ids=ids[at]).logits[:, :-1].flatten(0, 1)
            loss = F.cross_entropy(logits, labels[at, 1:].flatten())
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    model.eval().save_pretrained(out / "checkpoint")
    tokenizer.save_pretrained(out / "checkpoint")
    for split, part in parts.items():
        print(f"{split}: {exact(model, *lines(tokenizer, part)):.3f} answered exactly")


def exact(model: Any, ids: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of rows of which every answer token is the most likely one."""
    found = []
    with torch.no_grad():
        for start in range(0, len(ids), BATCH):
            some = slice(start, start + BATCH)
            wanted = labels[some, 1:]
            best = model(input_ids=ids[some]).logits[:, :-1].argmax(-1)
            found.append(((best == wanted) | (wanted == -100)).all(1))
    return torch.cat(found).float().mean().item()


if __name__ == "__main__":
    place = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1] / "runs/country_facts"
    smollm = place / "smollm2"  # a copy, so that the run file can name it
    shutil.copytree(at_hand("smollm2-135m").folder, smollm, dirs_exist_ok=True)
    main(place, smollm, at_hand("country-facts").load())
