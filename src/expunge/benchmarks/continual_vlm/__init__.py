"""Requests in a row on the emoji dual encoder: the benchmark of continual unlearning."""
