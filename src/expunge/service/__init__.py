"""The service: the ledger over HTTP for programs, and its pages for people. No logic is here: a
route parses, asks who may, calls ``ledger``, and renders.
"""
