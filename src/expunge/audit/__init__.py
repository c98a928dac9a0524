"""Oracles, persistence, verdicts and reports."""
