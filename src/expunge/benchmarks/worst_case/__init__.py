"""Worst-case forget sets on the digits: what a search finds, and how methods fare on it."""
