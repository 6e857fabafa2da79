"""Which labels each update uses, in which order."""
