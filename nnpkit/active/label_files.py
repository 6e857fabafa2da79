"""Labels as files, found by their content: one extended XYZ file per structure and settings.

``labels/SETTINGS/KEY.xyz`` is a label, ``quarantine/SETTINGS/KEY/`` a structure that got none: with
``reason.json``, the structure and the inputs and outputs of the last attempt. KEY is the hash of the structure,
SETTINGS the hash of everything that decides the numbers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nnpkit.data.dataset import structure_sha256
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.files import atomic_folder, atomic_write
from nnpkit.lock import FolderLock

__all__ = ["LabelFiles", "settings_id"]


def settings_id(identity: Mapping[str, Any]) -> str:
    """Short hash of a JSON-able description of how labels are computed; the order of keys does not matter."""
    text = json.dumps(dict(identity), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class LabelFiles:
    """The label files of a folder.

    Parameters
    ----------
    folder : path
        Holds ``labels/`` and ``quarantine/``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()

    def path(self, settings: str, key: str) -> Path:
        """Where the label is or will be."""
        return self.folder / "labels" / settings / f"{key}.xyz"

    def quarantine(self, settings: str, key: str) -> Path:
        """Where the failure is or will be."""
        return self.folder / "quarantine" / settings / key

    def lock(self, settings: str, key: str) -> FolderLock:
        """Held while the label is being computed."""
        return FolderLock(self.folder / "labels" / settings / "locks" / key[:24])

    def describe(self, settings: str, identity: Mapping[str, Any]) -> None:
        """Write down what the hash of the settings stands for."""
        path = self.folder / "labels" / settings / "settings.json"
        if not path.exists():
            with atomic_write(path) as stream:
                json.dump(dict(identity), stream, indent=1, sort_keys=True)

    def has(self, settings: str, key: str) -> bool:
        """Whether there is a label."""
        return self.path(settings, key).exists()

    def read(self, settings: str, key: str) -> Structure | None:
        """The label, None if there is none.

        Raises
        ------
        InputError
            If the file is not of this structure or cannot be read.
        """
        path = self.path(settings, key)
        if not path.exists():
            return None
        structure = read(path, "extxyz")[0]
        if structure_sha256(structure, labels=False) != key:
            raise InputError(
                "the label file does not hold the structure it is named after", where=str(path),
                hint="it was altered: remove it, and the label will be computed again",
            )  # fmt: skip
        return structure

    def write(self, settings: str, key: str, label: Structure) -> None:
        """Write a label; it appears complete or not at all, and an earlier failure is forgotten."""
        write(self.path(settings, key), [label], "extxyz")
        shutil.rmtree(self.quarantine(settings, key), ignore_errors=True)

    def fail(
        self, settings: str, key: str, structure: Structure, reason: Mapping[str, Any], work: Path | None
    ) -> None:
        """Put a structure into quarantine with the reason and what the last attempt left in `work`."""
        path = self.quarantine(settings, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(path) as new:
            if work is not None and work.is_dir():
                shutil.copytree(work, new / "attempt")
            write(new / "structure.xyz", [structure.replace(info={}, arrays={})], "extxyz")
            (new / "reason.json").write_text(json.dumps(dict(reason), indent=1), encoding="utf-8")

    def failure(self, settings: str, key: str) -> dict[str, Any] | None:
        """Why a structure has no label, None if it did not fail."""
        try:
            return dict(
                json.loads((self.quarantine(settings, key) / "reason.json").read_text(encoding="utf-8"))
            )
        except (OSError, ValueError):
            return None

    def all_settings(self) -> list[str]:
        """Settings that have a label or a failure."""
        folders = [*self.folder.glob("labels/*/"), *self.folder.glob("quarantine/*/")]
        return sorted({folder.name for folder in folders})

    def keys(self, settings: str) -> Iterator[str]:
        """Keys that have a label, sorted."""
        yield from sorted(path.stem for path in (self.folder / "labels" / settings).glob("*.xyz"))

    def failed_keys(self, settings: str) -> Iterator[str]:
        """Keys in quarantine, sorted."""
        found = (self.folder / "quarantine" / settings).glob("*/reason.json")
        yield from sorted(path.parent.name for path in found if not path.parent.name.startswith("."))
