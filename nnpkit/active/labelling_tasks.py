"""From structures to labels: the tasks that compute them, and what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnpkit.active.executor import Executor
from nnpkit.active.label_files import LabelFiles, settings_id
from nnpkit.active.labellers.reference_calculation import Limits, require_state
from nnpkit.active.labellers.registered import make_reference
from nnpkit.active.programs import python
from nnpkit.active.task import prepare_task
from nnpkit.data.dataset import structure_sha256
from nnpkit.data.formats.extxyz import write_extxyz
from nnpkit.data.structure import Structure
from nnpkit.files import atomic_folder

__all__ = ["Labeller", "Labelling"]


@dataclass(frozen=True)
class Labelling:
    """How labels are computed.

    Attributes
    ----------
    reference : mapping
        Of `nnpkit.active.labellers.registered.make_reference`.
    limits : Limits
        What a label must satisfy.
    retries : tuple of mapping
        Settings changed in the second attempt, the third, ...
    walltime : float
        s; a calculation that takes longer is a failed attempt.
    per_task : int
        Structures in a task: more for quick methods, one for expensive ones.
    environment : mapping
        Variables of the workers.
    """

    reference: Mapping[str, Any]
    limits: Limits = field(default_factory=Limits)
    retries: tuple[Mapping[str, Any], ...] = ()
    walltime: float = 3600.0
    per_task: int = 8
    environment: Mapping[str, str] = field(default_factory=lambda: {"OMP_NUM_THREADS": "1"})


class Labeller:
    """Labels structures into the folder of a project.

    Parameters
    ----------
    labelling : Labelling
        How.
    root : path
        Where ``labels/`` and ``quarantine/`` are.

    Raises
    ------
    InputError
        If the reference calculator cannot be made.
    """

    def __init__(self, labelling: Labelling, root: str | Path) -> None:
        self.labelling, self.files = labelling, LabelFiles(root)
        self.reference = make_reference(labelling.reference)
        identity = self.reference.identity
        self.settings = settings_id(identity)
        self.files.describe(self.settings, identity)

    def open_structures(self, structures: Sequence[Structure]) -> list[Structure]:
        """Those that have neither a label nor failed, each once.

        Raises
        ------
        InputError
            If the reference calculation does not take the charge or spin of one of them.
        """
        found: dict[str, Structure] = {}
        for structure in structures:
            require_state(self.reference, structure)
            key = structure_sha256(structure, labels=False)
            if not self.files.has(self.settings, key) and self.files.failure(self.settings, key) is None:
                found.setdefault(key, structure)
        return list(found.values())

    def prepare(self, structures: Sequence[Structure], work: Path) -> list[Path]:
        """Folders of tasks below `work` that label `structures`; the same structures always get the same folders."""
        size = self.labelling.per_task
        return [self._task(list(structures[k : k + size]), work) for k in range(0, len(structures), size)]

    def _task(self, structures: list[Structure], work: Path) -> Path:
        keys = [structure_sha256(s, labels=False) for s in structures]
        folder = work / hashlib.sha256("\n".join([self.settings, *keys]).encode()).hexdigest()[:16]
        if (folder / "task.json").exists():
            return folder
        content = {
            "reference": dict(self.labelling.reference), "limits": asdict(self.labelling.limits),
            "retries": [dict(r) for r in self.labelling.retries], "root": str(self.files.folder),
            "settings": self.settings,
        }  # fmt: skip
        with atomic_folder(folder) as new:
            (new / "job.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
            write_extxyz(new / "structures.xyz", structures)
            command = python("nnpkit.active.label_worker", folder.absolute())
            prepare_task(new, command, beat=self.labelling.walltime, environment=self.labelling.environment)
        return folder

    def label(
        self,
        structures: Sequence[Structure],
        work: Path,
        executor: Executor,
        done: Callable[[Path, dict[str, Any]], None] | None = None,
    ) -> dict[str, str]:
        """Label structures; ``done``, ``quarantined`` or ``unknown`` for each key.

        Structures that have a label or failed before are not computed again. What is unknown at the end (the
        labelling process itself failed, as on a full disk) can be asked for again.
        """
        folders = self.prepare(self.open_structures(structures), work)
        executor.run(folders, done)
        keys = [structure_sha256(s, labels=False) for s in structures]
        return {key: self._state(key) for key in keys}

    def _state(self, key: str) -> str:
        if self.files.has(self.settings, key):
            return "done"
        return "unknown" if self.files.failure(self.settings, key) is None else "quarantined"
