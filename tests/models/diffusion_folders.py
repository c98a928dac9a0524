"""A tiny text-to-image model of latents, written as a folder in the layout of Stable Diffusion."""

from pathlib import Path

import torch

from expunge.models.denoisers import SmallTextToImage, TextToImage


def written(folder: Path) -> Path:
    """A tiny model of latents in the layout of Stable Diffusion."""
    from diffusers import AutoencoderKL, PNDMScheduler
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<begin>": 1, "<end>": 2, "<unk>": 3, "a": 4, "cat": 5, "dog": 6}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        "<begin> $A <end>", None, [("<begin>", 1), ("<end>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<begin>",
        eos_token="<end>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    small = SmallTextToImage((4, 8, 8), 7, 8, widths=(8, 16), width=16, heads=2)(0)
    assert isinstance(small, TextToImage)
    small.unet.save_pretrained(folder / "unet")  # type: ignore[operator]
    small.text_encoder.save_pretrained(folder / "text_encoder")  # type: ignore[operator]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        vae = AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=8,
            layers_per_block=1,
        )
    vae.save_pretrained(folder / "vae")
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    ).save_pretrained(folder / "scheduler")
    return folder
