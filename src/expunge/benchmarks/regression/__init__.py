"""Regression: forgetting ranges of targets and groups of rows, where models answer with numbers."""
