"""Makes an image classifier of your own kind: pictures in class folders, a small ViT, trained.

    python examples/digit_folder.py                # about a minute on 2 cores
    expunge forget examples/digit_folder.yaml

Everything is written under ``runs/digit_folder``: ``pictures/SPLIT/CLASS/NUMBER.png`` and the
Hugging Face folder ``checkpoint``. The training loop is plain torch, as yours would be.
"""

import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from expunge.data import mnist

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
EPOCHS, BATCH, LEARNING_RATE = 12, 64, 1e-3  # the recipe in digit_folder.yaml says the same


def write_pictures(folder: Path, every: int) -> None:
    """The MNIST-5k digits (500 a class) as PNG files in folders of splits and classes.

    ``every`` n-th of them is written; 1 is all.
    """
    for split in ("train", "validation", "test"):
        table = mnist.load(split)
        pixels = (mnist.tensors(table)["image"] * 255).round().to(torch.uint8).squeeze(1).numpy()
        names, labels = table["id"][:], table["label"][:]
        for i in range(0, len(table), every):
            place = folder / split / WORDS[labels[i]] / f"{names[i].replace(':', '-')}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[i]).save(place)


def read_pictures(folder: Path, processor: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (n, 3, 28, 28) as the processor makes them, and labels (n,)."""
    paths = sorted(folder.rglob("*.png"))
    pictures = [Image.open(path).convert("RGB") for path in paths]
    pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]  # type: ignore[operator]
    return pixels, torch.tensor([WORDS.index(path.parent.name) for path in paths])


def main(out: Path, every: int = 1, epochs: int = EPOCHS) -> None:
    """Write the pictures, train the model on them, and save it."""
    torch.manual_seed(0)
    write_pictures(out / "pictures", every)
    config = ViTConfig(
        image_size=28,
        patch_size=7,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=128,
        id2label=dict(enumerate(WORDS)),
        label2id={word: i for i, word in enumerate(WORDS)},
    )
    model = ViTForImageClassification(config)
    ViTImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(out / "checkpoint")
    processor = AutoImageProcessor.from_pretrained(out / "checkpoint")
    pixels, labels = read_pictures(out / "pictures" / "train", processor)
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.0)
    for epoch in range(epochs):
        for batch in torch.randperm(len(labels)).split(BATCH):
            loss = model(pixels[batch], labels=labels[batch]).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    model.eval().save_pretrained(out / "checkpoint")
    pixels, labels = read_pictures(out / "pictures" / "test", processor)
    with torch.no_grad():
        right = model(pixels).logits.argmax(1) == labels
    print(f"accuracy on {len(labels)} test pictures: {right.float().mean().item():.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1] / "runs/digit_folder")
