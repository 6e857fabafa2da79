"""The families of models, one folder each, and what is chosen among them."""
