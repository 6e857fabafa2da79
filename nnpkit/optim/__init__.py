"""Optimizers that see vectors only."""
