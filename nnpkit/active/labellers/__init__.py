"""Reference calculations by different programs."""
