"""`python -m nnpkit`: the same as the program `nnpkit`."""

from nnpkit.cli.main import run

run()
