"""Readable definitions of kernels, and the compiled ones."""
