"""The Deep Potential: embedding descriptor, its measurements in closed form, its tables."""
