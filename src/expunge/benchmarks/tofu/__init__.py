"""TOFU and its small analogue: fictitious authors to be forgotten, real facts to be kept."""
