"""Reference architectures."""
