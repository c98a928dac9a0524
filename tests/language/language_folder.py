"""A language model as a user would have it: a tiny Llama in a Hugging Face folder, and its facts.

Twelve people have three facts each. A pet and a town are one word, a hobby is two.
"""

import copy
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.nn.functional as F
import yaml

PEOPLE = ("ann", "bob", "eve", "dan", "fay", "gus", "hal", "ida", "joe", "kim", "lea", "max")
FACTS = {
    "Where does {} live ?": ("Rome", "Oslo", "Lima"),
    "Which pet has {} ?": ("cat", "dog", "owl", "yak"),
    "What does {} like ?": ("red wine", "old films", "long walks", "wine", "films"),
}
OTHER_WORDS = {
    "Where does {} live ?": "The town of {} ?",
    "Which pet has {} ?": "The pet of {} ?",
    "What does {} like ?": "{} likes what ?",
}
"""The same questions in other words, to be held out."""

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def facts(wording: dict[str, str] | None = None) -> datasets.Dataset:
    """36 rows with the columns ``id``, ``subject``, ``question`` and ``answer``."""
    rows = []
    for number, person in enumerate(PEOPLE):
        for kind, (question, answers) in enumerate(FACTS.items()):
            asked = question if wording is None else wording[question]
            answer = answers[(number * (kind + 1) + number // 4) % len(answers)]
            rows.append(
                {
                    "id": f"{'t' if wording else 'r'}{number}-{kind}",
                    "subject": person,
                    "question": asked.format(person),
                    "answer": answer,
                }
            )
    return datasets.Dataset.from_list(rows)


def tokenizer(more: tuple[str, ...] = (), **settings: Any) -> Any:
    """Words apart by spaces; ``</s>`` ends an answer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    texts = [t for w in (None, OTHER_WORDS) for r in facts(w) for t in (r["question"], r["answer"])]
    words = sorted({word for text in texts for word in text.split()})
    special = ("<unk>", "</s>", "<pad>", "<user>", "<assistant>", "I", "do", "not", "know")
    names = dict.fromkeys((*special, *words, *more))
    inner = Tokenizer(WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    settings = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", **settings}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **settings)


def model(vocabulary: int, **settings: Any) -> Any:
    """An untrained Llama of two layers that ties its embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        **{
            "vocab_size": vocabulary,
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32,
            "tie_word_embeddings": True,
            **settings,
        }
    )
    return LlamaForCausalLM(config).eval()


def table() -> datasets.Dataset:
    """Both wordings of every fact, with the column ``split``: of every person one question in other
    words is held out."""
    asked = [{**row, "split": "train"} for row in facts()]
    for number, row in enumerate(facts(OTHER_WORDS)):
        held = (number // 3) % 3 == number % 3
        asked.append({**row, "split": "test" if held else "train"})
    return datasets.Dataset.from_list(asked)


EPOCHS, BATCH, RATE = 60, 16, 4e-3
"""How the model is trained, by AdamW."""


def trained(words: Any, epochs: int = EPOCHS) -> Any:
    """A Llama that learned the answers of the training rows by a loop of plain torch."""
    learner = model(len(words))
    rows = [row for row in table() if row["split"] == "train"]
    lines = [words(f"{row['question']} {row['answer']} </s>")["input_ids"] for row in rows]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(line) for line in lines], True)
    labels = torch.full_like(ids, -100)
    for at, (row, line) in enumerate(zip(rows, lines, strict=True)):
        start = len(row["question"].split())
        labels[at, start : len(line)] = ids[at, start : len(line)]
    optimiser = torch.optim.AdamW(learner.parameters(), RATE, weight_decay=0.0)
    learner.train()
    for _ in range(epochs):
        for some in torch.split(torch.randperm(len(rows)), BATCH):
            logits = learner(input_ids=ids[some]).logits[:, :-1].flatten(0, 1)
            loss = F.cross_entropy(logits, labels[some, 1:].flatten(), ignore_index=-100)
            torch.autograd.backward(loss)
            optimiser.step()
            optimiser.zero_grad()
    return learner.eval()


def folder(place: Path, epochs: int = EPOCHS) -> Path:
    """``model`` with the trained Llama and its tokenizer, and ``facts.parquet``."""
    words = tokenizer()
    trained(words, epochs).save_pretrained(place / "model")
    words.save_pretrained(place / "model")
    table().to_parquet(place / "facts.parquet")
    return place


def run_file(place: Path, made: Path, **parts: Any) -> Path:
    """A run file in ``place`` for what :func:`folder` made: ``{key}__{key}`` changes one key."""
    columns = {"id": "id", "subject": "subject", "prompt": "question", "answer": "answer"}
    source = {"source": str(made / "facts.parquet"), "columns": columns}
    content: dict[str, Any] = {
        "model": {"checkpoint": str(made / "model")},
        "data": {"train": {**source, "split": "train"}, "test": {**source, "split": "test"}},
        "requests": [
            {"name": "eve", "column": "subject", "values": ["eve"]},
            {"name": "ida", "column": "subject", "values": ["ida"]},
        ],
        "method": {
            "name": "gradient-difference",
            "parameters": {"learning_rate": 3e-3, "epochs": 6, "sequential": True},
        },
        "aggregation": "sum",
        "out": "out",
    }
    content = copy.deepcopy(content)
    for key, value in parts.items():
        *path, last = key.split("__")
        inner = content
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    path_of_file = place / "run.yaml"
    path_of_file.write_text(yaml.safe_dump(content, sort_keys=False))
    return path_of_file
