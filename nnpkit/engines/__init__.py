"""Other programs that run simulations with our potentials; each module needs the program that it is named after."""
