"""Pretrained weights of the catalogue: one file a source, each with its ENTRIES."""
