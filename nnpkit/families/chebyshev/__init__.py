"""The Chebyshev descriptor."""
