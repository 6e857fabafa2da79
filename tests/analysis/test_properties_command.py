"""`nnpkit properties` with a potential of bonds whose energies are known, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from test_properties import bonds, crystal, depth
from typer.testing import CliRunner

from nnpkit.analysis.properties.hot_elastic import hot_elastic
from nnpkit.analysis.properties.moving_study import expected_seconds, moving_properties
from nnpkit.analysis.properties.properties_page import write_page
from nnpkit.analysis.properties.static_study import static_properties
from nnpkit.analysis.properties.study import wanted_properties
from nnpkit.analysis.properties.study_options import Options
from nnpkit.analysis.properties.thermal import expansion_of
from nnpkit.cli.main import app
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.md.simulation_settings import Simulation


def nnpkit(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_potential_beside_its_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are the same bonds here, so both columns are; the page, the table and the JSON hold them."""
    from small_models import small_model

    from nnpkit.deploy.targets.torchscript import export_model

    monkeypatch.chdir(tmp_path)
    export_model(small_model(), "model.pt")
    write("fcc.xyz", [crystal()])
    monkeypatch.setattr("nnpkit.md.calculator.NnpkitCalculator", lambda model: bonds())
    monkeypatch.setattr("nnpkit.cli.model_argument.any_calculator", lambda name: bonds())
    call = (
        "properties",
        "model.pt",
        "fcc.xyz",
        "-o",
        "out",
        "--what",
        "vacancy,surfaces,eos,interstitial,stacking",
        "--surfaces",
        "111",
    )
    result = nnpkit(*call, "--reference", "bonds", "--extent", 7)
    assert result.exit_code == 0, result.output
    content = json.loads(Path("out/properties.json").read_text())
    for side in ("potential", "reference"):
        energy = content[side]["vacancy"]["vacancy 1 of Cu"]
        assert energy == {"value": pytest.approx(6.0 * depth(), rel=1e-4), "unit": "eV"}
        assert content[side]["crystal"]["energy"]["value"] == pytest.approx(-6.0 * depth(), rel=1e-6)
    page = Path("out/properties.html").read_text()
    assert "(111)" in page
    assert page.count("data:image/png") == 4
    assert content["potential"]["interstitial"]["dumbbell 100"]["value"] > 5.0
    assert "see elastic and compression" in result.stderr
    assert len(content["potential"]["stacking"]["curves"]["energies"]) == 11
    assert "1.9" in result.stdout or "vacancy" in result.stdout
    again = nnpkit(*call)
    assert again.exit_code == 1
    assert "properties already" in again.stderr
    assert nnpkit(*call, "--overwrite", "--extent", 6).exit_code == 0
    assert "reference" not in json.loads(Path("out/properties.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--what", "conductivity", "--steps", "7999"), "7999 steps of 0.5 fs are too few for conductivity"),
        (
            ("--what", "melting", "--temperatures", "300"),
            "a melting point is sought between two temperatures",
        ),
        (("--what", "nothing"), "--what: unknown property 'nothing'"),
        (("--what", ""), "--what: unknown property ''"),
        (("--what", "surfaces", "--surfaces", "abc"), "--surfaces: surface 'abc'"),
        (
            ("--what", "expansion", "--temperatures", "300"),
            "--temperatures: thermal expansion needs a ladder",
        ),
        (("--what", "eos", "--reference", "nobody"), "there is no calculator 'nobody'"),
        (
            ("--what", "diffusion,viscosity", "--steps", "3999"),
            "--steps: 3999 steps of 0.5 fs are too few for viscosity",
        ),
        (("--what", "vibrations", "--steps", "799"), "expected at least 800, and many times that"),
        (("--what", "expansion", "--temperatures", "hot"), "--temperatures: 'hot' is no list of numbers"),
    ],
)
def test_mistakes_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple, message: str
) -> None:
    from small_models import small_model

    from nnpkit.deploy.targets.torchscript import export_model

    monkeypatch.chdir(tmp_path)
    export_model(small_model(), "model.pt")
    write("fcc.xyz", [crystal(symbol="H")])
    result = nnpkit("properties", "model.pt", "fcc.xyz", "-o", "out", *arguments)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not Path("out").exists()


def test_what_cannot_be_computed_takes_nothing_else_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that fails after hours of other properties: these are written, and the exit code says that one is not."""
    from small_models import small_model

    from nnpkit.deploy.targets.torchscript import export_model
    from nnpkit.md.lammps_run import SimulationError

    def unstable(*_: object) -> dict:
        raise SimulationError("the temperature exploded")

    def no_surface(*_: object) -> list:
        raise RuntimeError("no convergence")

    monkeypatch.chdir(tmp_path)
    export_model(small_model(), "model.pt")
    write("fcc.xyz", [crystal()])
    monkeypatch.setattr("nnpkit.md.calculator.NnpkitCalculator", lambda model: bonds())
    monkeypatch.setattr("nnpkit.cli.model_argument.any_calculator", lambda name: bonds())
    monkeypatch.setattr("nnpkit.analysis.properties.moving_study.expected_seconds", lambda *_: 3723.0)
    for module in ("thermal", "hot_elastic"):
        monkeypatch.setattr(f"nnpkit.analysis.properties.{module}.run_simulation", unstable)
    monkeypatch.setattr("nnpkit.analysis.properties.static_study.surface_energies", no_surface)
    result = nnpkit(
        "properties", "model.pt", "fcc.xyz", "-o", "out", "--what", "eos,surfaces,expansion,hot-elastic,diffusion",
        "--reference", "bonds",
    )  # fmt: skip
    assert result.exit_code == 1
    assert result.stdout.startswith("simulations of 256 atoms: about 1:02:03 where nothing else runs")
    for line in (
        "nnpkit: error: surfaces: RuntimeError: no convergence", "nnpkit: error: diffusion: the temperature exploded",
        "nnpkit: error: expansion: the temp", "nnpkit: error: hot-elastic: the temp",
        "nnpkit: error: bonds: surfaces: Runt",
    ):  # fmt: skip
        assert line in result.stderr
    content = json.loads(Path("out/properties.json").read_text())
    assert content["potential"]["eos"]["bulk modulus"]["value"] > 1.0
    assert content["potential"]["diffusion"] == {"failed": "the temperature exploded"}
    assert content["reference"]["surfaces"] == {"failed": "RuntimeError: no convergence"}
    page = Path("out/properties.html").read_text()
    assert "reference: RuntimeError: no convergence" in page
    assert "the temperature exploded" in page
    assert "bulk modulus" in result.stdout


def test_a_molecule_is_no_material(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 periodic directions"):
        static_properties(
            Structure(["H"], [[0.0] * 3], np.eye(3), False, name="m"), EMT(), ["eos"], Options()
        )


def test_all_static_properties_of_aluminium_make_a_page(tmp_path: Path) -> None:
    aluminium = Structure.from_atoms(bulk("Al", "fcc", a=4.0, cubic=True), "<b>Al</b>")
    told: list[str] = []
    found = static_properties(
        aluminium, EMT(), ["compression", "elastic"], Options(pressure_max=10.0), told.append
    )
    assert told == ["relaxing the crystal", "compression", "elastic"]
    modulus = found["elastic"].values["bulk modulus (Voigt)"][0]
    # to first order the volume follows the bulk modulus
    volumes = found["compression"].curves["volumes"]
    step = found["compression"].curves["pressures"][1]
    assert -step * volumes[0] / (volumes[1] - volumes[0]) == pytest.approx(modulus + 2.0 * step, rel=0.1)
    assert set(found["elastic"].values) >= {"C11", "C12", "C44"}
    assert "C14" not in found["elastic"].values
    write_page(tmp_path / "page.html", aluminium.name, found, {}, None)
    text = (tmp_path / "page.html").read_text()
    assert "<b>Al</b>" not in text
    assert "&lt;b&gt;Al" in text


def test_volumes_on_a_line_give_the_coefficient() -> None:
    temperatures = np.array([200.0, 400.0, 600.0])
    volumes = 12.0 * (1.0 + 50e-6 * (temperatures - 400.0))
    found = expansion_of(temperatures, volumes, np.full(3, 1e-3))
    assert found.coefficient == pytest.approx(50.0, rel=1e-9)
    exact = 1e-3 / np.sqrt(2 * 200.0**2) / 12.0 * 1e6
    assert found.error == pytest.approx(exact, rel=1e-6)
    bent = expansion_of(temperatures, volumes + np.array([0.0, 0.05, 0.0]), np.full(3, 1e-3))
    assert bent.error > 10 * found.error  # the line does not fit, and the error says so


def test_names_are_given_once() -> None:
    assert wanted_properties(" eos, elastic ,eos") == ["eos", "elastic"]


@pytest.fixture
def argon_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulations of argon by Lennard and Jones in the place of those of a model."""
    from argon import SMOOTH, needs_lammps

    from nnpkit.analysis.simulation import report
    from nnpkit.md.lammps import input_files
    from nnpkit.md.lammps_run import lammps_command, prepare_folder, run_lammps

    needs_lammps()

    def simulate(model, start, folder, settings, ranks, overwrite, on_row):
        prepare_folder(folder, input_files(settings, start, SMOOTH), overwrite)
        return report(folder, settings, start, run_lammps(folder, lammps_command(1)))

    monkeypatch.setattr("nnpkit.analysis.properties.thermal.simulate", simulate)


ANY_MODEL = SimpleNamespace(n_members=1, metadata={})


def constants_of_pairs(edge: float) -> tuple[float, float]:
    """C11 and C12 = C44 (GPa) of fcc atoms in the potential of `argon.SMOOTH`, at rest and without pressure.

    ``C_ijkl = 1/(2 V) sum (phi'' - phi'/r) x_i x_j x_k x_l / r^2`` over the neighbours of an atom.
    """
    from argon import CUTOFF, EPSILON, SIGMA

    places = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    x = places[(places.sum(axis=1) % 2 == 0) & places.any(axis=1)] * edge / 2.0
    r = np.linalg.norm(x, axis=1)
    x, r = x[r < CUTOFF], r[r < CUTOFF]

    def slope(r):
        return 4.0 * EPSILON * (-12.0 * SIGMA**12 / r**13 + 6.0 * SIGMA**6 / r**7)

    curvature = 4.0 * EPSILON * (156.0 * SIGMA**12 / r**14 - 42.0 * SIGMA**6 / r**8)
    k = (curvature - (slope(r) - slope(CUTOFF)) / r) / r**2 / (2.0 * edge**3 / 4.0) * 160.21766
    return float((k * x[:, 0] ** 4).sum()), float((k * x[:, 0] ** 2 * x[:, 1] ** 2).sum())


def cold_argon(repeat: tuple[int, int, int]) -> Structure:
    return Structure.from_atoms(bulk("Ar", "fcc", a=5.355, cubic=True).repeat(repeat), "argon")


COLD = Simulation(temperature=2.0, timestep=5.0, steps=300, every=4, dump_every=300)


def test_elastic_constants_of_a_cold_crystal(tmp_path: Path, argon_runs: None) -> None:
    """At 2 K they are those at rest, at the volume that the crystal has then: two strains of a cubic crystal."""
    settings = replace(COLD, steps=800)
    result = moving_properties(
        ANY_MODEL, cold_argon((3, 3, 3)), ["hot-elastic"], Options(), tmp_path, settings
    )
    found = result["hot-elastic"]
    assert len(list(tmp_path.iterdir())) == 5
    assert set(found.errors) == {"C11", "C12", "C44"}
    c11, c12 = constants_of_pairs((4.0 * found.curves["volume"]) ** (1.0 / 3.0))
    for name, value in (("C11", c11), ("C12", c12), ("C44", c12)):
        assert found.values[name][0] == pytest.approx(value, rel=0.03)
        assert 0.0 < found.errors[name] < 0.03 * value
    assert found.values["bulk modulus (Voigt)"][0] == pytest.approx((c11 + 2 * c12) / 3, rel=0.03)
    assert len(found.figures) == 1


def test_six_strains_give_the_same_constants(tmp_path: Path, argon_runs: None) -> None:
    found = hot_elastic(ANY_MODEL, cold_argon((3, 3, 2)), tmp_path, COLD)
    assert not found.cubic
    assert len(list(tmp_path.iterdir())) == 13
    c11, c12 = constants_of_pairs((4.0 * found.volume) ** (1.0 / 3.0))
    for at, value in {(0, 0): c11, (2, 2): c11, (0, 1): c12, (3, 3): c12, (5, 5): c12}.items():
        assert found.constants[at] == pytest.approx(value, rel=0.05)
    assert np.abs(found.constants[:3, 3:]).max() < 0.05 * c12


def test_simulations_of_a_crystal(tmp_path: Path, argon_runs: None) -> None:
    """Argon by Lennard and Jones in LAMMPS: atoms of a cold crystal stay, and vibrate at less than 3 THz."""
    from argon import crystal as argon
    from argon import structure

    settings = Simulation(temperature=10.0, timestep=4.0, steps=600, every=10, dump_every=100)
    found = moving_properties(
        ANY_MODEL,
        structure(argon(2, 0.0)),
        ["diffusion", "viscosity", "vibrations"],
        Options(),
        tmp_path,
        settings,
    )
    assert abs(found["diffusion"].values["Ar"][0]) < 0.5
    assert "atoms vibrate at their places" in found["diffusion"].notes[0]
    assert found["viscosity"].errors["shear viscosity"] > 0.0
    assert 0.3 < found["vibrations"].values["highest peak of Ar"][0] < 3.0
    assert len(found["vibrations"].figures) == 1
    assert (tmp_path / "production" / "summary.json").exists()


def test_argon_conducts_heat(tmp_path: Path, argon_runs: None) -> None:
    """108 atoms at 40 K: the integral of the autocorrelation over 4 ps of a run of 160 ps is 0.27 W/(m K)."""
    from argon import crystal as argon
    from argon import structure

    settings = Simulation(temperature=40.0, timestep=4.0, steps=20000, every=10, dump_every=20000)
    found = moving_properties(
        ANY_MODEL, structure(argon(3, 0.0)), ["conductivity"], Options(), tmp_path, settings
    )["conductivity"]
    value, unit = found.values["thermal conductivity"]
    error = found.errors["thermal conductivity"]
    assert unit == "W/(m K)"
    assert 0.0 < error < 0.5
    assert abs(value - 0.27) < 0.1 + 3.0 * error
    assert "fix             integrate all nve" in (tmp_path / "production" / "in.lammps").read_text()
    assert len(found.figures) == 1


def test_argon_melts(tmp_path: Path, argon_runs: None) -> None:
    """2000 atoms of crystal beside melt at constant temperature and 1 bar freeze at 55 K, melt at 57 K, stay at 56 K.

    The search begins at 60 K, where it must not stay, and looks from the other side as well.
    """
    start = Structure.from_atoms(bulk("Ar", "fcc", a=5.4, cubic=True).repeat((4, 4, 5)), "argon")
    settings = Simulation(timestep=5.0, steps=5000, every=20, dump_every=5000)
    options = Options(temperatures=(52.0, 68.0))
    found = moving_properties(ANY_MODEL, start, ["melting"], options, tmp_path, settings)["melting"]
    assert not found.failed
    assert len(found.figures) == 1
    assert found.values["melting point"][0] == pytest.approx(56.0, abs=3.0)
    assert 0.0 < found.errors["melting point"] < 3.0
    assert len(found.curves) == 2
    for run in found.curves.values():
        assert run["mean"] == pytest.approx(56.0, abs=3.5)
        assert 0.15 < run["crystal"] < 0.85
    assert "640 atoms" in found.notes[0]


def test_expected_time_is_that_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10 µs an atom and step: one run a temperature, five for a cube's strains, a quarter more to equilibrate."""
    monkeypatch.setattr("nnpkit.analysis.properties.moving_study.step_cost", lambda *_: 10.0)
    model = SimpleNamespace(save=lambda path, structure: Path(path).write_bytes(b"model"))
    settings, start = Simulation(steps=1000), cold_argon((2, 2, 2))

    def runs(*names: str, ranks: int = 1) -> float:
        return expected_seconds(model, start, names, Options(), settings, ranks) / (1e-5 * 32 * 1000)

    assert runs("diffusion", "viscosity", "conductivity") == pytest.approx(1.25)
    assert runs("expansion") == pytest.approx(3.0)
    assert runs("hot-elastic", "diffusion") == pytest.approx(6.25)
    assert runs("melting") == pytest.approx(7.0)  # twice the atoms
    assert runs("expansion", ranks=2) == pytest.approx(1.5)
