"""Forgetting without labels: representation alignment beside methods that read labels."""
