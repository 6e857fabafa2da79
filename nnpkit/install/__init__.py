"""Building, finding and diagnosing what is compiled for this machine."""
