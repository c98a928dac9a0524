"""expunge: machine unlearning for the life of a model."""

__version__ = "0.1.0"
