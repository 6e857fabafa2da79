"""From a configuration to trainings, committees, folds and studies."""
