"""Reliability of the ledger: workers that are killed, faults on purpose, and a long queue."""
