"""Moderated score models: what they still draw, and what they still know."""
