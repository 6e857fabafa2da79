"""Active learning: explore, select, label, train, and keep account of all of it."""
