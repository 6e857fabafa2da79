"""Water with classical and with quantum nuclei: i-PI moves the atoms, nnpkit's driver evaluates the model.

    pip install "nnpkit[ipi]"
    python examples/ipi/run.py quickstart/model.pt examples/water/test.xyz.xz@12 [--beads 8] [--steps 4000]

Two runs from the same structure at the same temperature, with one bead and with several. Radial distribution functions
of all beads are drawn on top of each other; hydrogen's zero-point motion shows in the first peak of O-H. With
``--pressure`` (bar) the volume changes too. The last line is ``RESULT {json}``: height and width (full, at half its
height, Å) of that peak, the mean kinetic energy of an atom in K (2/3 of it over Boltzmann's constant, centroid virial:
the temperature for classical nuclei, more for quantum ones), the density in g/cm³, and the seconds of each run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.analysis.liquid import RadialDistribution, density, radial_distribution
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.engines import ipi_driver
from nnpkit.errors import InputError

BOLTZMANN = 8.617333262e-5  # eV/K
EQUILIBRATION = 0.25  # of a run, left out
SOCKETS = Path("/tmp")  # where i-PI makes them

INPUT = """<simulation verbosity='medium'>
  <output prefix='run'>
    <properties stride='{stride}' filename='out'> [ step, time{{picosecond}}, temperature{{kelvin}}, \
potential{{electronvolt}}, kinetic_cv{{electronvolt}}, volume{{angstrom3}} ] </properties>
    <trajectory stride='{stride}' filename='positions' format='ase'> positions </trajectory>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>1</seed></prng>
  <ffsocket name='nnpkit' mode='unix' pbc='False'>
    <address>{address}</address>
    <latency>1e-4</latency>
  </ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='ase' units='angstrom'> start.xyz </file>
      <velocities mode='thermal' units='kelvin'> {temperature} </velocities>
    </initialize>
    <forces><force forcefield='nnpkit'> </force></forces>
    <motion mode='dynamics'>
      <dynamics mode='{ensemble}'>
        <timestep units='femtosecond'> {timestep} </timestep>
        <thermostat mode='pile_g'><tau units='femtosecond'> 50 </tau></thermostat>
{barostat}      </dynamics>
    </motion>
    <ensemble><temperature units='kelvin'> {temperature} </temperature>{pressure}</ensemble>
  </system>
</simulation>
"""
BAROSTAT = """        <barostat mode='isotropic'>
          <tau units='femtosecond'> 200 </tau>
          <thermostat mode='langevin'><tau units='femtosecond'> 100 </tau></thermostat>
        </barostat>
"""


def program(name: str) -> str:
    """Path of a program of i-PI in this environment."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise InputError(f"{name} is not installed", hint='install i-PI with: pip install "nnpkit[ipi]"')
    return str(path)


def simulate(model: Path, start: Structure, folder: Path, **settings: Any) -> float:
    """One run of i-PI with one driver in `folder`; its seconds.

    Raises
    ------
    InputError
        If i-PI or the driver ends before the run does; it says what they have said last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("run.*"):
        old.unlink()
    write(folder / "start.xyz", [start])
    address = f"nnpkit-{folder.resolve().name}-{time.time_ns()}"
    (folder / "input.xml").write_text(INPUT.format(address=address, **settings), encoding="utf-8")
    driver = [
        program("i-pi-py_driver"), "-u", "-a", address, "-m", "custom", "-P", str(ipi_driver.__file__),
        "-o", f"model={model.resolve()},template={(folder / 'start.xyz').resolve()}",
    ]  # fmt: skip
    began = time.monotonic()
    with open(folder / "ipi.log", "w") as log, open(folder / "driver.log", "w") as words:
        server = subprocess.Popen([program("i-pi"), "input.xml"], cwd=folder, stdout=log, stderr=log)
        client = None
        try:
            while not (SOCKETS / f"ipi_{address}").exists() and server.poll() is None:
                time.sleep(0.05)
            client = subprocess.Popen(driver, cwd=folder, stdout=words, stderr=words)
            while server.poll() is None and client.poll() is None:
                time.sleep(0.1)
            server.wait(60)
        except subprocess.TimeoutExpired:
            pass
        finally:
            for process in (server, client):
                if process is not None and process.poll() is None:
                    process.terminate()
                    process.wait()
    done = len(table(folder)) if (folder / "run.out").exists() else 0
    if done < settings["steps"] // settings["stride"]:
        said = [(folder / name).read_text(encoding="utf-8")[-500:] for name in ("ipi.log", "driver.log")]
        raise InputError(f"the run ended after {done} outputs: {said[0]}\n{said[1]}", where=str(folder))
    return time.monotonic() - began


def table(folder: Path) -> np.ndarray:
    """Columns of ``run.out``."""
    return np.atleast_2d(np.loadtxt(folder / "run.out"))


def beads_of(folder: Path) -> list[Structure]:
    """Frames of all beads, without the beginning of the run."""
    frames: list[Structure] = []
    for path in sorted(folder.glob("run.positions_*")):
        bead = read(path, labels_matter=False)
        frames += bead[int(EQUILIBRATION * len(bead)) :]
    return frames


def first_peak(rdf: RadialDistribution, pair: tuple[str, str]) -> tuple[float, float]:
    """Height of the first peak and its full width at half of it, Å."""
    near = rdf.r < rdf.r[int(rdf.g[pair].argmax())] + 0.4
    r, g = rdf.r[near], rdf.g[pair][near]
    above = r[g > g.max() / 2]
    return float(g.max()), float(above[-1] - above[0] + (r[1] - r[0]))


def summary(folder: Path, rdf: RadialDistribution, frames: list[Structure]) -> dict[str, float]:
    """What is said of one run."""
    later = table(folder)[int(EQUILIBRATION * len(table(folder))) :]
    height, width = first_peak(rdf, ("H", "O"))
    return {
        "OH_height": round(height, 2),
        "OH_width": round(width, 3),
        "kinetic_kelvin": round(2 * float(later[:, 4].mean()) / (3 * frames[0].n_atoms * BOLTZMANN), 1),
        "density": round(float(np.mean([density(frame) for frame in frames])), 4),
        "frames": len(frames),
    }


def draw(path: Path, distributions: dict[str, RadialDistribution]) -> None:
    """All pairs, one panel each, the runs on top of each other."""
    import matplotlib.pyplot as plt

    pairs = list(next(iter(distributions.values())).g)
    figure, panels = plt.subplots(len(pairs), 1, figsize=(6.4, 2.2 * len(pairs)), squeeze=False)
    for panel, pair in zip(panels[:, 0], pairs, strict=True):
        for name, rdf in distributions.items():
            panel.plot(rdf.r, rdf.g[pair], label=name)
        panel.set_ylabel(f"g, {'-'.join(pair)}")
        panel.set_xlim(0.7 if pair == ("H", "O") else 1.0, float(rdf.r[-1]))
        panel.legend()
    panels[-1, 0].set_xlabel("r (Å)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    """Both runs and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("start", help="a structure, FILE or FILE@FRAME")
    parser.add_argument("--beads", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--stride", type=int, default=20, help="steps from one frame to the next")
    parser.add_argument("--timestep", type=float, default=0.5, help="fs")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--pressure", type=float, help="bar; without it the volume stays")
    parser.add_argument("-o", "--output", type=Path, default=Path("ipi"))
    arguments = parser.parse_args()
    file, _, number = arguments.start.partition("@")
    start = read(file, labels_matter=False)[int(number or 0)]
    start = start.replace(energy=None, forces=None, stress=None, info={}, arrays={})
    constant = arguments.pressure is None
    settings = {
        "steps": arguments.steps, "stride": arguments.stride, "timestep": arguments.timestep,
        "temperature": arguments.temperature, "ensemble": "nvt" if constant else "npt",
        "barostat": "" if constant else BAROSTAT,
        "pressure": "" if constant else f"<pressure units='bar'> {arguments.pressure} </pressure>",
    }  # fmt: skip
    result: dict[str, Any] = {}
    distributions = {}
    for name, beads in (("classical", 1), ("quantum", arguments.beads)):
        folder = arguments.output / name
        seconds = simulate(arguments.model, start, folder, beads=beads, **settings)
        frames = beads_of(folder)
        distributions[name] = radial_distribution(frames)
        result[name] = {"beads": beads, **summary(folder, distributions[name], frames)}
        result[name]["seconds"] = round(seconds, 1)
        print(name, result[name], flush=True)
    draw(arguments.output / "rdf.png", distributions)
    print("RESULT", json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
