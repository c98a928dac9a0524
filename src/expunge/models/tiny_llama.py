"""A Llama shape of a few hundred thousand parameters, to be trained from scratch in a minute.

The architecture is transformers' own (Touvron et al. 2023. LLaMA: Open and Efficient Foundation
Language Models), so that a trained one is saved and opened like any checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from expunge.errors import ExpungeError


@dataclass(frozen=True)
class TinyLlama:
    """Builds the model of a seed: ``TinyLlama(400)(0)``.

    Args:
        vocabulary: number of tokens.
        layers: number of decoder layers.
        width: of the hidden states; a multiple of twice the heads.
        heads: of the attention.
        inner: width inside the feed-forward layers.
        context: positions at most.
        end: the token that ends an answer.
        padding: the token that fills rows up.

    Raises:
        ExpungeError: the width cannot be divided among the heads.
    """

    vocabulary: int
    layers: int = 4
    width: int = 112
    heads: int = 4
    inner: int = 336
    context: int = 64
    end: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ExpungeError(
                f"A width of {self.width} was given with {self.heads} heads; a multiple of "
                f"{2 * self.heads} is expected."
            )

    def __call__(self, seed: int) -> nn.Module:
        """The untrained model, its weights drawn with ``seed``; input and output embeddings are
        one tensor."""
        import transformers

        config = transformers.LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=self.end,
            pad_token_id=self.padding,
        )
        with torch.random.fork_rng(devices=[]):  # transformers draws from the global numbers
            torch.default_generator.manual_seed(seed)
            model: Any = transformers.LlamaForCausalLM(config)
        made: nn.Module = model.eval()
        return made
