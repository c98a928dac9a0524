"""Sharded: training in shards and slices, so that rows can be taken out again."""
