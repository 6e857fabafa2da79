"""A package of somebody else, installed as far as Python's metadata are concerned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, entry_points: Mapping[str, str], module: str = "", name: str = "foreign") -> Path:
    """Put a package into `folder`, which goes to the front of the path: one module, and entry points by group.

    `entry_points` has lines such as ``{"nnpkit.formats": "dots = foreign:FORMAT"}``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(module, encoding="utf-8")
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8"
    )
    groups = "".join(f"[{group}]\n{line}\n" for group, line in entry_points.items())
    (metadata / "entry_points.txt").write_text(groups, encoding="utf-8")
    return folder
