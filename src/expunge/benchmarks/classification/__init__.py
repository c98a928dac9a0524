"""Classifier unlearning on several sets, models and kinds of requests, beside oracles."""
