"""Sharded: S3T and SISA in trained runs, how well they serve and for how many removals."""
