"""Where new structures come from."""
