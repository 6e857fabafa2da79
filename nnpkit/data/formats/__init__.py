"""File formats of reference data, one module each."""
