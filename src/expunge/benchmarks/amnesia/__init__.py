"""Whether facts sit in layers that a trace can find, and whether it helps to move these alone."""
