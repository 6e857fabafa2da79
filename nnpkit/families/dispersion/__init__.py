"""Dispersion of pairs as a term of a model."""
