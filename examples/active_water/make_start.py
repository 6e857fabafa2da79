#!/usr/bin/env python3
"""Take the 20 frames that the example begins with: bulk water at 300 to 400 K, one frame of each trajectory."""

from __future__ import annotations

from pathlib import Path

from nnpkit.data.formats import read, write

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Write ``start.xyz``."""
    first = {}
    for structure in read(HERE.parent / "water" / "train.xyz.xz"):
        if structure.info["stage"] == "bulk" and float(structure.info["temperature"]) <= 400.0:
            first.setdefault(structure.info["trajectory"], structure)
    chosen = [first[name] for name in sorted(first)]
    step = max(1, len(chosen) // 20)
    chosen = (chosen[::step] + chosen[1::step])[:20]
    if len(chosen) < 20:
        others = [s for s in read(HERE.parent / "water" / "train.xyz.xz") if s.info["stage"] == "bulk"]
        names = {s.name for s in chosen}
        chosen += [s for s in others if s.name not in names][: 20 - len(chosen)]
    write(HERE / "start.xyz", chosen)
    print(f"{len(chosen)} frames in {HERE / 'start.xyz'}")


if __name__ == "__main__":
    main()
