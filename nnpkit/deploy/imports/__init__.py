"""Potentials of other programs."""
