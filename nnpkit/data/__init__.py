"""Structures, file formats, data sets, neighbour lists and graphs."""
