"""Datamodel matching on the digits: how near unlearned models come to a population of oracles."""
