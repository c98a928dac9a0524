"""Persons are forgotten, the task stays: the benchmark of facial identities and its stand-ins."""
