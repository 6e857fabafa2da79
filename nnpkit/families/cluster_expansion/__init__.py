"""The cluster expansion: trained radial functions, invariants of two to five bodies, and NEP as a case of it."""
