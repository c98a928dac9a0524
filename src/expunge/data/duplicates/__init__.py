"""Copies, near-duplicates and mentions: what else in the tables is the thing to be forgotten."""
