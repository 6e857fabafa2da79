#!/usr/bin/env python3
"""Take the 20 frames of the beginning: 15 of bulk water at 300 to 400 K, one of each trajectory, and 5 clusters."""

from __future__ import annotations

from pathlib import Path

from nnpkit.data.formats.reading import read, write

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Write ``start.xyz`` and, for the runs in vacuum, the clusters among them to ``clusters.xyz``."""
    first = {}
    for structure in read(HERE.parent / "water" / "train.xyz.xz"):
        if structure.info["stage"] in ("bulk", "cluster") and float(structure.info["temperature"]) <= 400.0:
            first.setdefault(structure.info["trajectory"], structure)
    found = [first[name] for name in sorted(first)]
    bulk = [s for s in found if s.info["stage"] == "bulk"][:15]
    clusters = [s for s in found if s.info["stage"] == "cluster"][:5]
    write(HERE / "start.xyz", [*bulk, *clusters])
    write(HERE / "clusters.xyz", clusters)
    print(f"{len(bulk)} frames of bulk water and {len(clusters)} clusters in {HERE / 'start.xyz'}")


if __name__ == "__main__":
    main()
