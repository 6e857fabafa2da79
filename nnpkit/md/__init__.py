"""Molecular dynamics: ASE calculator and LAMMPS driver."""
