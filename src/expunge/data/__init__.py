"""Real data with stable ids."""
