"""From structures, a model and labels to residuals, Jacobians and losses."""
