"""Analysis of predictions and trajectories."""
