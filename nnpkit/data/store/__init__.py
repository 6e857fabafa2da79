"""Frames on disk in shards that are mapped into memory: data sets that need not fit."""
