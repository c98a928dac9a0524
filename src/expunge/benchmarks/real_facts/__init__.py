"""Real facts: what a pretrained model knows of capitals and people, and forgets."""
