"""Kinds of model: how each is read, its losses, its anatomy."""
