"""How much denser a potential makes molten NaCl than its reference, from one trajectory evaluated by both.

    python benchmarks/latent_charges.py --epochs 3 --folder FOLDER
    python benchmarks/density_difference.py FOLDER/latent-acsf-fitted-1 --data FOLDER/test.xyz --picoseconds 30

Densities of two runs differ by chance as much as 30 ps of 256 ions fluctuate. On the frames of one run both potentials
are evaluated instead (``rerun`` of LAMMPS): the difference of the densities follows from how that of the energies,
dU = U(potential) - U(reference), goes with the density, to first order -cov(density, dU) / kT, and without that order
from the weights exp(-dU / kT). Beside it the difference of the pressures of the frames. One run is driven by the
reference, one by the potential; what both say agrees where they overlap. Errors are those of the jackknife, for frames
half a picosecond apart. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.lammpsdata import write_lammps_data
from latent_charges import POTENTIAL

from nnpkit.data.formats.reading import read

KELVIN = 1300.0
KT = 8.617333e-5 * KELVIN
GRAMS = 1.66053907  # 1e-24 g in u: of u/Å³ in g/cm³
EVERY = 500  # steps of 1 fs between frames
LEFT_OUT = 5.0  # ps
ROW = re.compile(r"^ *\d+(?: +[-+.\de]+){5} *$", re.MULTILINE)


def head(folder: Path, model: Path | None) -> str:
    """Input up to the potential: the reference, or a model."""
    text = POTENTIAL.format(data=folder / "data.lmp", cutoff=8.0).replace("ewald 1e-8", "pppm 1e-6")
    if model is not None:
        before = text[: text.index("set type 1")]
        text = f"{before}pair_style nnpkit every 0\npair_coeff * * {model.resolve()} Na Cl\n"
        text += "compute stress all pressure NULL virial\n"
    return text + (
        f"thermo {EVERY}\nthermo_style custom step vol pe c_stress[1] c_stress[2] c_stress[3]\n"
        "thermo_modify format float %.14g\nneighbor 1.0 bin\nneigh_modify every 1 delay 0 check yes\ntimestep 0.001\n"
    )


def lammps(folder: Path, text: str, ranks: int = 1) -> np.ndarray:
    """Volumes, energies and diagonal virial pressures (frames, 5) that LAMMPS prints."""
    (folder / "in.lmp").write_text(text)
    command = [str(Path(sys.prefix) / "bin" / name) for name in ("mpirun", "lmp")]
    done = subprocess.run(
        [command[0], "-n", str(ranks), command[1], "-in", "in.lmp"], cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return np.array([row.split()[1:] for row in ROW.findall(done.stdout)], dtype=float)


def difference(
    reference: np.ndarray, model: np.ndarray, mass: float, driven_by_model: bool
) -> dict[str, float]:
    """Of density (g/cm³) and pressure (GPa), potential minus reference."""
    density, change = GRAMS * mass / reference[:, 0], model[:, 1] - reference[:, 1]
    change = change - change.mean()
    n = len(density)
    first = [-np.cov(np.delete(density, k), np.delete(change, k))[0, 1] / KT for k in range(n)]
    weights = np.exp((change if driven_by_model else -change) / KT)
    moved = float((weights * density).sum() / weights.sum() - density.mean())
    pressure = (model[:, 2:] - reference[:, 2:]).mean(1) / 1e4
    return {
        "density": float(density.mean()),
        "first_order": float(-np.cov(density, change)[0, 1] / KT),
        "first_order_error": float(np.sqrt((n - 1) * np.var(first))),
        "weighted": -moved if driven_by_model else moved,
        "effective_frames": float(weights.sum() ** 2 / (weights**2).sum()),
        "pressure": float(pressure.mean()),
        "pressure_error": float(pressure.std() / np.sqrt(n)),
        "frames": n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of the potential")
    parser.add_argument(
        "--data", type=Path, required=True, help="whose first structure is where the runs begin"
    )
    parser.add_argument("--picoseconds", type=float, default=30.0)
    parser.add_argument("--ranks", type=int, default=2)
    arguments = parser.parse_args()
    start, model = read(arguments.data)[0], arguments.run / "model.pt"
    atoms = Atoms(start.symbols, start.positions, cell=start.cell, pbc=True).repeat((2, 2, 1))
    result = {}
    for name, driving in (("reference", None), ("model", model)):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_lammps_data(
                folder / "data.lmp", atoms, specorder=["Na", "Cl"], atom_style="charge", units="metal"
            )
            lammps(
                folder,
                head(folder, driving) + f"velocity all create {KELVIN} 7\n"
                f"fix n all npt temp {KELVIN} {KELVIN} 0.1 iso 0 0 0.5\n"
                f"dump d all custom {EVERY} frames id type x y z\ndump_modify d sort id format float %.12g\n"
                f"run {round(1000 * arguments.picoseconds)}\n",
                arguments.ranks,
            )
            skipped = round(1000 * LEFT_OUT / EVERY) + 1
            tables = [
                lammps(folder, head(folder, which) + "rerun frames dump x y z box yes\n")[skipped:]
                for which in (None, model)
            ]
        result[name] = difference(*tables, atoms.get_masses().sum(), driven_by_model=driving is not None)
        print(
            "driven by the", name, {key: round(value, 5) for key, value in result[name].items()}, flush=True
        )
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
