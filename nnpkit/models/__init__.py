"""Descriptors, networks and potentials."""
