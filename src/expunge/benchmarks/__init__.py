"""Protocols whose figures stand in the documentation."""
