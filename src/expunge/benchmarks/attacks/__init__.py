"""Attacks on language models that forgot facts, and on oracles that never knew them."""
