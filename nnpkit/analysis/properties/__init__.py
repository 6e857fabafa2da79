"""Properties of materials that people publish, from any ASE calculator or from simulations."""
