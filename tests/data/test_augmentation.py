"""Augmented copies: repeatable, still on white, and never mirrored."""

import torch

from expunge.data.augmentation import Jitter, augmented


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_same_generator_gives_the_same_copies() -> None:
    images = torch.randint(0, 256, (5, 3, 64, 64), generator=seeded(0), dtype=torch.uint8)
    first, again, other = (augmented(images, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.uint8
    assert len(augmented(images[:0], seeded(1))) == 0


def test_a_white_page_stays_white() -> None:
    page = torch.full((8, 3, 64, 64), 255, dtype=torch.uint8)
    assert torch.equal(augmented(page, seeded(0)), page)


def test_a_grey_drawing_gets_no_colour() -> None:
    grey = torch.randint(0, 256, (8, 1, 64, 64), generator=seeded(0), dtype=torch.uint8)
    copies = augmented(grey.expand(-1, 3, -1, -1), seeded(1)).int()
    assert int((copies.amax(dim=1) - copies.amin(dim=1)).max()) <= 2


def test_left_stays_left_and_up_stays_up() -> None:
    drawing = torch.full((64, 3, 64, 64), 255, dtype=torch.uint8)
    drawing[:, :, 10:26, 10:26] = 0  # a square in the upper left corner
    ink = 255 - augmented(drawing, seeded(3)).float().mean(dim=1)
    assert bool((ink[:, :32, :32].sum(dim=(1, 2)) > 0.8 * ink.sum(dim=(1, 2))).all())


def test_a_jitter_of_nothing_copies_and_one_that_shrinks_shrinks() -> None:
    drawing = torch.full((4, 3, 64, 64), 255, dtype=torch.uint8)
    drawing[:, :, 8:56, 8:56] = 0
    still = Jitter(0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert torch.equal(augmented(drawing, seeded(0), still), drawing)
    smaller = augmented(drawing, seeded(0), Jitter(0, 0, 0.7, 0, 0, 0, 0, 0, 0))
    ink = (255 - smaller.float()).sum((1, 2, 3)) / (255 - drawing.float()).sum((1, 2, 3))
    assert bool(((ink - 0.25).abs() < 0.02).all())  # half the width and height, nearly
