"""Diffusion models told by labels: a class that must not be drawn any more."""
