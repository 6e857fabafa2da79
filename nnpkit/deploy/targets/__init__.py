"""What a model can be written as."""
