"""Corrective unlearning: a manipulation of which only a part is identified."""
