"""Concepts: whether rows that are chosen by concepts carry a class better than rows drawn."""
