"""The process of one exploration run: ``python -m nnpkit.active.explore_worker FOLDER``.

It runs the dynamics, assesses the collected frames with the committee, and writes ``candidates.xyz``,
``candidates.json``, ``vectors.npy`` and ``exploration.json`` (what was seen and how the run ended). A run that
explodes is no failure: what was good until then is kept.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.active.assess import Assessment, Extrapolation, assess
from nnpkit.active.explorers.contract import Explored, Explorer
from nnpkit.active.explorers.registered import EXPLORERS
from nnpkit.active.explorers.runs import exploration_input
from nnpkit.data.formats.extxyz import read_extxyz, write_extxyz
from nnpkit.data.formats.reading import read
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.errors import InputError, NnpkitError
from nnpkit.files import atomic_write
from nnpkit.md.atoms import atom_types, of_motion
from nnpkit.md.box import data_text
from nnpkit.md.lammps_run import lammps_command, run_lammps
from nnpkit.md.thermo import ThermoReader

__all__ = ["LAMMPS", "main", "read_candidates", "write_candidates"]

_DISAGREEMENT, _EXTRAPOLATIONS = "c_watched[1]", "c_watched[2]"


def main(folder: Path) -> None:
    """Run, assess, write."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    model = load(folder / job["model"])
    start = read(folder / "start.xyz", "extxyz")[0]
    frames, history, outside, ended = EXPLORERS.get(job["engine"]).run(folder, start, model, job)
    frames = [
        f.replace(
            name=f"{folder.parent.parent.name}/{folder.name} step {f.info.get('step', '?')}",
            total_charge=start.total_charge,
            multiplicity=start.multiplicity,
            arrays=of_motion(start),
        )
        for f in frames
    ]
    good, refused = [], 0
    for frame in frames:
        try:
            good += list(assess(model, [frame]))
        except InputError:  # atoms at the same place, not finite
            refused += 1
    write_candidates(folder, good)
    seen = history[:, 1] if len(history) else np.zeros(0)
    report = {
        "ended": ended, "looked": len(seen), "collected": len(frames), "refused": refused,
        "steps": int(history[-1, 0]) if len(history) else 0,
        "certain": int((seen < job["lower"]).sum()), "above": int((seen > job["upper"]).sum()),
        "extrapolating": int((outside > 0).sum()), "extrapolations": int(outside.sum()),
        "history": history.tolist(),
    }  # fmt: skip
    with atomic_write(folder / "exploration.json") as stream:
        json.dump(report, stream)


def _lammps(folder: Path, job: Mapping[str, Any]) -> tuple[list[Structure], np.ndarray, np.ndarray, str]:
    """Run LAMMPS; collected frames, (step, disagreement) rows, extrapolations of every row and how it ended."""
    frames = folder / "watch.xyz"
    frames.unlink(missing_ok=True)
    reader, ended = ThermoReader(), ""
    try:
        reader = run_lammps(folder, lammps_command(job["ranks"]))
    except InputError:
        raise
    except NnpkitError as error:  # the run exploded, or somebody killed it
        if getattr(error, "killed", False):
            os.kill(
                os.getpid(), signal.SIGKILL
            )  # so that the watcher begins again, and the frames stay the same
        ended = str(error)
        log = folder / "log.lammps"
        if log.exists():
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                reader.feed(line)
        if not reader.tables:
            raise
    else:
        text = (folder / "log.lammps").read_text(encoding="utf-8", errors="replace")
        reasons = [line for line in text.splitlines() if line.startswith("nnpkit: run ends at step")]
        ended = (
            reasons[-1].removeprefix("nnpkit: ")
            if reasons
            else "too hot"
            if reader.halted
            else "all steps done"
        )
    thermo = reader.thermo()
    missing = [name for name in (_DISAGREEMENT, _EXTRAPOLATIONS) if name not in thermo]
    if missing:
        raise InputError(
            f"the thermo output has no column {' and no '.join(missing)}", where=str(folder / "in.lammps"),
            hint="an input of your own needs: compute watched all nnpkit force_std_max extrapolations",
        )  # fmt: skip
    rows = np.column_stack([thermo["step"], thermo[_DISAGREEMENT]])
    outside = np.nan_to_num(thermo[_EXTRAPOLATIONS])
    return _complete_frames(frames), rows[np.isfinite(rows).all(axis=1)], outside, ended


class LammpsExplorer(Explorer):
    """Molecular dynamics in LAMMPS, which watches the committee as it runs."""

    def prepare(self, folder: Path, start: Structure, job: Mapping[str, Any], own: str | None) -> None:
        """Write the input, or what goes before the user's, and the data file."""
        elements = [element for element, _ in atom_types(start)[0]]
        (folder / "in.lammps").write_text(exploration_input(start, elements, job, own), encoding="utf-8")
        data = data_text(start, sorted(set(start.symbols)))
        (folder / "structure.data").write_text(data, encoding="utf-8")

    def run(self, folder: Path, start: Structure, model: LoadedModel, job: Mapping[str, Any]) -> Explored:
        """See `Explorer`; a run that explodes is no failure."""
        return Explored(*_lammps(folder, job))


LAMMPS = LammpsExplorer()


def _complete_frames(path: Path) -> list[Structure]:
    """Frames of an extended XYZ file whose end may be missing."""
    if not path.exists():
        return []
    lines, kept, at = path.read_text(encoding="utf-8", errors="replace").split("\n"), [], 0
    while at < len(lines) - 1 and lines[at].strip().isdigit():
        n = int(lines[at]) + 2
        if at + n > len(lines) - 1:  # the last line ends without a line break: cut
            break
        kept += lines[at : at + n]
        at += n
    if not kept:
        return []
    whole = path.with_suffix(".whole.xyz")
    with atomic_write(whole) as stream:
        stream.write("\n".join(kept) + "\n")
    found = read_extxyz(whole)
    return [
        f.replace(energy=None, forces=None, stress=None, charges=None, dipole=None, arrays={}) for f in found
    ]


def write_candidates(folder: Path, assessed: list[Assessment]) -> None:
    """Write assessed frames."""
    rows = []
    for a in assessed:
        row = {
            "name": a.name, "key": a.key, "energy": a.energy, "max_force": a.max_force, "disagreement": a.disagreement,
            "energy_std": a.energy_std, "min_distance": a.min_distance,
            "extrapolation": None if a.extrapolation is None else asdict(a.extrapolation),
        }  # fmt: skip
        rows.append(row)
    if assessed:
        write_extxyz(folder / "candidates.xyz", [a.structure.replace(info={}) for a in assessed])
        with atomic_write(folder / "vectors.npy", "wb") as stream:
            np.save(stream, np.array([a.vector for a in assessed]), allow_pickle=False)
    with atomic_write(folder / "candidates.json") as stream:
        json.dump(rows, stream)


def read_candidates(folder: Path) -> list[Assessment]:
    """What `write_candidates` wrote."""
    rows = json.loads((folder / "candidates.json").read_text(encoding="utf-8"))
    if not rows:
        return []
    structures = read_extxyz(folder / "candidates.xyz")
    vectors = np.load(folder / "vectors.npy", allow_pickle=False)
    found = []
    for row, structure, vector in zip(rows, structures, vectors, strict=True):
        outside = row.pop("extrapolation")
        named = structure.replace(name=row.pop("name"))
        extrapolation = None if outside is None else Extrapolation(**outside)
        found.append(Assessment(structure=named, vector=vector, extrapolation=extrapolation, **row))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
