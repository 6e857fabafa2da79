"""Export, import and loading of trained potentials."""
