"""Sparsity: whether pruned models forget closer to retraining than dense ones."""
