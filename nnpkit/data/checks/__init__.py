"""Checks of data sets: what is suspicious about their structures and labels."""
