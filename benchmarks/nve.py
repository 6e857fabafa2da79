"""Conservation of energy in LAMMPS, of any model, in both precisions of its kernel and by TorchScript.

    python benchmarks/nve.py run/model.pt frames.xyz --frame 0 --steps 20000

The structure is brought to 300 K for a tenth of the steps; from there, with the same positions and velocities, NVE
runs evaluate the model in float64 and in mixed precision, and for the first ``--exact`` steps by TorchScript; a Deep
Potential through tables of 1e-10, and in float64 of 1e-6, too. The last line is ``RESULT {json}`` with, for each run,
the drift of the total energy (meV per atom and ps) with its standard error, its fluctuation about that line (meV per
atom), and the largest difference of the total energy from that of the first run (eV) within 200 steps, before
trajectories part.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from nnpkit.analysis.dynamics import energy_drift
from nnpkit.data.formats.reading import read
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.md.box import data_text
from nnpkit.md.lammps_run import lammps_command

EVERY = 20  # steps between energies
BEGIN = "units metal\natom_style atomic\n"
MODEL = """
pair_style nnpkit {options}
pair_coeff * * {model} {elements}
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
timestep {timestep}
thermo {every}
thermo_style custom step time temp etotal
thermo_modify format float %.14g
"""


def run(folder: Path, text: str) -> np.ndarray:
    """Run LAMMPS; the table of steps, times (ps), temperatures (K) and energies (eV)."""
    (folder / "in.lammps").write_text(text, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(lammps_command(1), cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    log = (folder / "log.lammps").read_text(encoding="utf-8").split("TotEng")[1].split("Loop time")[0]
    # the rest are remarks
    rows = [line.split() for line in log.splitlines()[1:] if line.strip()[:1].isdigit()]
    return np.array([[float(word) for word in row] for row in rows])


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a model file")
    parser.add_argument("data", help="structures")
    parser.add_argument("--frame", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--femtoseconds", type=float, default=0.5, help="of a step")
    parser.add_argument(
        "--repeat", type=int, nargs=3, default=(1, 1, 1), help="copies of the cell along its vectors"
    )
    parser.add_argument("--exact", type=int, default=200, help="steps by TorchScript")
    given = parser.parse_args()
    model, structure = load(given.model), read(given.data, frames=given.frame)[0]
    structure = Structure.from_atoms(structure.to_atoms().repeat(given.repeat), name="start")
    runs = {
        "float64": ("fine.pt", "", given.steps),
        "mixed": ("fine.pt", "precision mixed", given.steps),
        "torchscript": ("fine.pt", "kernel torchscript", given.exact),
    }
    tabulated = model.metadata["spec"]["kind"] == "deep_potential"
    if tabulated:
        runs["table of 1e-6"] = ("coarse.pt", "", given.steps)
    result: dict[str, object] = {"n_atoms": structure.n_atoms, "ps": given.steps * given.femtoseconds * 1e-3}
    with tempfile.TemporaryDirectory(prefix="nnpkit-nve-") as name:
        folder = Path(name)
        for tolerance, file in ((1e-10, "fine.pt"), (1e-6, "coarse.pt")):
            if tabulated:
                model.tabulate(tolerance)
            model.save(folder / file)
        elements = " ".join(model.elements)
        text = data_text(structure, model.elements)
        (folder / "start.data").write_text(text, encoding="utf-8")
        common = {"elements": elements, "every": EVERY, "timestep": 1e-3 * given.femtoseconds}
        begin = BEGIN + "read_data start.data\n" + MODEL.format(options="", model="fine.pt", **common)
        begin += "velocity all create 300 1\nfix 1 all nve\nfix 2 all langevin 300 300 0.1 1\n"
        run(folder, begin + f"run {given.steps // 10}\nwrite_restart start.restart\n")
        first = None
        for label, (file, options, steps) in runs.items():
            settings = MODEL.format(options=options, model=file, **common)
            table = run(folder, f"{BEGIN}read_restart start.restart\n{settings}fix 1 all nve\nrun {steps}\n")
            first = table if first is None else first
            drift = energy_drift(table[:, 1], table[:, 3], structure.n_atoms)
            n = min(len(table), 200 // EVERY + 1)
            result[label] = {
                "steps": steps, "temperature": float(table[:, 2].mean()), **drift._asdict(),
                "difference": float(np.abs(table[:n, 3] - first[:n, 3]).max()),
            }  # fmt: skip
            print(label, result[label], flush=True)
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
