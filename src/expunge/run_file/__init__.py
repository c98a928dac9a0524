"""Run files: a model, its tables, its requests and its method in a file that people write."""
