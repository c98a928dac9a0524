"""A ridge head on random features of the 8 x 8 digits: all that is learned is the last layer."""

from torch import nn

from expunge.models.random_features import RandomReLU


def build(width: int = 1024) -> nn.Module:
    """From pixels (n, 1, 8, 8) to logits (n, 10); the layer below the head was never trained."""
    return nn.Sequential(nn.Flatten(), RandomReLU(64, width), nn.Linear(width, 10, bias=False))
