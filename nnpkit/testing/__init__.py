"""Tests that a new family of models, a labeller or a format inherits; they need pytest."""
