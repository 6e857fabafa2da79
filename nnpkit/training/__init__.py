"""Observations, schedules, updates and the training loop."""
