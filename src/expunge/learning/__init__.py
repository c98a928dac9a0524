"""How models are made, so that they can be made again."""
