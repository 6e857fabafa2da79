"""Third and fourth generation potentials of RuNNer and n2p2, against loops and against n2p2 itself."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from runner_by_hand import FUNCTIONS, NUMBER, HandPotential

from nnpkit.data.structure import Structure
from nnpkit.deploy.imports.runner_potential import read_runner_potential
from nnpkit.deploy.load import load
from nnpkit.deploy.targets.runner import write_runner_potential
from nnpkit.errors import InputError
from nnpkit.units import BOHR, HARTREE

WIDTHS, HARDNESS = {"H": 0.6, "O": 1.3}, {"H": 0.4, "O": 0.25}
INNER, OUTER = 2.0, 5.5
COMMON = ("screen_electrostatics 2.0 5.5", "global_hidden_layers_electrostatic 1", "global_nodes_electrostatic 3",
          "global_activation_electrostatic t l")  # fmt: skip
FOURTH = ("nnp_generation 4", *(f"fixed_gausswidth {e} {w}" for e, w in WIDTHS.items()), *COMMON)


class HandCharges(HandPotential):
    """The potential by loops, with charge networks beside the atomic ones."""

    def __init__(self, generation: int, extra: tuple[str, ...] | None = None) -> None:
        self.generation = generation
        lines = FOURTH if generation == 4 else ("nnp_generation 3", *COMMON)
        super().__init__(extra=lines if extra is None else extra, atom_energy={"O": -2.0})
        random = np.random.default_rng(5)
        self.charge_layers = {}
        for element, functions in FUNCTIONS.items():
            n = len(functions)
            self.charge_layers[element] = [
                (random.uniform(-0.5, 0.5, (3, n)), random.uniform(-0.5, 0.5, 3)),
                (random.uniform(-0.4, 0.4, (1, 3)), random.uniform(-0.4, 0.4, 1)),
            ]
            if generation == 4:
                weight, bias = self.layers[element][0]
                self.layers[element][0] = (np.hstack([weight, random.uniform(-1, 1, (len(weight), 1))]), bias)

    def write(self, folder: Path) -> Path:
        super().write(folder)
        for element, layers in self.charge_layers.items():
            name = f"{NUMBER[element]:03d}.data"
            (folder / f"weightse.{name}").write_text(self._weights(layers))
            if self.generation == 4:
                (folder / f"hardness.{name}").write_text(f" {HARDNESS[element]}\n")
        return folder

    def evaluate(self, symbols: list[str], positions: np.ndarray, total: float) -> tuple[float, np.ndarray]:
        """Energy (hartree) and charges of a cluster, positions in bohr."""
        raw = self.symmetry_functions(symbols, positions, np.eye(3) * 1e3)
        scaled = []
        for element, values in zip(symbols, raw, strict=True):
            low, high, average, _ = self.table[element]
            scaled.append(self.range[0] + (self.range[1] - self.range[0]) * (values - average) / (high - low))
        outputs = []
        for element, x in zip(symbols, scaled, strict=True):
            (w, b), (v, c) = self.charge_layers[element]
            outputs.append((v @ np.tanh(w @ x + b) + c)[0])
        n, outputs = len(symbols), np.array(outputs)
        interaction = np.zeros((n, n))
        fourth, distance = self.generation == 4, np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                if i != j:
                    r = distance[i, j] = np.linalg.norm(positions[i] - positions[j])
                    gamma = math.hypot(WIDTHS[symbols[i]], WIDTHS[symbols[j]])
                    interaction[i, j] = (math.erf(r / (math.sqrt(2) * gamma)) if fourth else 1.0) / r
        charges = outputs + (total - outputs.sum()) / n
        if fourth:
            own = [HARDNESS[e] + 1 / (WIDTHS[e] * math.sqrt(math.pi)) for e in symbols]
            bordered = np.ones((n + 1, n + 1))
            bordered[:n, :n], bordered[n, n] = interaction + np.diag(own), 0.0
            charges = np.linalg.solve(bordered, [*-outputs, total])[:n]
        x = np.clip((distance - INNER) / (OUTER - INNER), 0.0, 1.0)
        energy = 0.5 * charges @ (interaction * 0.5 * (1 - np.cos(math.pi * x))) @ charges
        for element, values, q in zip(symbols, scaled, charges, strict=True):
            values = np.append(values, q) if fourth else values
            for (weight, bias), letter in zip(self.layers[element], self.letters, strict=True):
                values = weight @ values + bias
                values = np.tanh(values) if letter == "t" else values
            energy += values[0] + self.atom_energy.get(element, 0.0)
        return energy, charges


def cluster() -> tuple[list[str], np.ndarray]:
    random = np.random.default_rng(8)
    water = np.array([[0.0, 0.0, 0.0], [0.0, 1.43, 1.1], [0.0, -1.43, 1.1]])
    return ["O", "H", "H"] * 2, np.concatenate(
        [water, water[:, [2, 0, 1]] + [4.6, 0.9, 2.0]]
    ) + 0.1 * random.normal(size=(6, 3))


@pytest.mark.parametrize("generation", [3, 4])
@pytest.mark.parametrize("total", [0.0, 1.0])
def test_energies_and_charges_are_those_of_the_loops(tmp_path: Path, generation: int, total: float) -> None:
    hand, (symbols, positions) = HandCharges(generation), cluster()
    model = load(hand.write(tmp_path), units="bohr-hartree")
    found = model.predict(Structure(symbols, positions * BOHR, total_charge=total))
    energy, charges = hand.evaluate(symbols, positions, total)
    assert found.energy / HARTREE == pytest.approx(energy, rel=1e-10)
    np.testing.assert_allclose(found.charges, charges, atol=1e-9)
    np.testing.assert_allclose(found.dipole, charges @ positions * BOHR, atol=1e-9)


def test_the_potential_survives_a_model_file(tmp_path: Path) -> None:
    model = load(HandCharges(4).write(tmp_path / "hand"), units="bohr-hartree")
    model.save(tmp_path / "model.pt")
    symbols, positions = cluster()
    s = Structure(symbols, positions * BOHR, np.eye(3) * 9.0, [True] * 3)
    before, after = model.predict(s), load(tmp_path / "model.pt").predict(s)
    assert before.energy == after.energy
    np.testing.assert_array_equal(before.forces, after.forces)
    np.testing.assert_array_equal(before.charges, after.charges)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "hardness.008.data").unlink(), ["hardness.008.data", "cannot be read"]),
        (lambda f: (f / "hardness.008.data").write_text("-0.1\n"), ["hardness -0.1 of O", "positive"]),
        (lambda f: (f / "weightse.001.data").unlink(), ["weightse.001.data", "cannot be read"]),
        (lambda f: drop(f, "fixed_gausswidth O"), ["no width of the charge of O", "fixed_gausswidth O"]),
        (lambda f: add(f, "four_pi_epsilon 2.0"), ["four_pi_epsilon"]),
        (lambda f: swap(f, "2.0 5.5", "5.5 2.0"), ["screening from 5.5 to 2", "inner < outer"]),
        (lambda f: swap(f, "2.0 5.5", "2.0 5.5 p"), ["screening of type p", "cosine"]),
        (lambda f: swap(f, "nnp_generation 4", "nnp_generation 2"), ["in a potential without charges"]),
        (lambda f: add(f, "nnp_gen 3"), ["contradict each other"]),
        (lambda f: swap(f, "nnp_generation 4", "nnp_generation 5"), ["nnp_generation 5 is not supported"]),
        (lambda f: add(f, "kspace_solver pppm"), ["kspace_solver pppm"]),
    ],
)
def test_bad_folders_are_refused(tmp_path: Path, change, words: list[str]) -> None:
    folder = HandCharges(4).write(tmp_path / "hand")
    change(folder)
    with pytest.raises(InputError) as caught:
        read_runner_potential(folder, units="bohr-hartree")
    for word in words:
        assert word in str(caught.value)


def add(folder: Path, line: str) -> None:
    (folder / "input.nn").write_text((folder / "input.nn").read_text() + line + "\n")


def swap(folder: Path, old: str, new: str) -> None:
    text = (folder / "input.nn").read_text()
    assert old in text
    (folder / "input.nn").write_text(text.replace(old, new))


def drop(folder: Path, start: str) -> None:
    lines = (folder / "input.nn").read_text().splitlines()
    (folder / "input.nn").write_text("\n".join(x for x in lines if not x.startswith(start)) + "\n")


ORACLES = Path(os.environ.get("NNPKIT_DATA", "")) / "oracles" / "n2p2_4G"
FOLDERS = [
    "n2p2_4G_Carbon_chain", "n2p2_4G_H2O_normalised", "n2p2_4G_H2O_RPBE-D3", "constructed_3G/Carbon_chain",
    "constructed_3G/H2O_RPBE-D3", "n2p2_4G_AlAuMgO",
]  # fmt: skip


@pytest.mark.skipif(not ORACLES.is_dir(), reason="needs NNPKIT_DATA with the numbers of n2p2")
@pytest.mark.parametrize("name", FOLDERS)
def test_numbers_of_n2p2(name: str) -> None:
    """Energies, charges, forces and stresses; not where n2p2 itself is wrong (cells shorter than the screening)."""
    model = load(ORACLES / name, units="bohr-hartree")
    frames = json.loads(next((ORACLES / name).glob("frames_*.json")).read_text())["frames"]
    for frame in frames:
        if len(frame["symbols"]) > 100 or "b=7" in frame["comment"] or "self image" in frame["comment"]:
            continue
        cell = np.zeros((3, 3)) if frame["cell"] is None else np.array(frame["cell"]) * BOHR
        s = Structure(
            frame["symbols"], np.array(frame["positions"]) * BOHR, cell, [frame["periodic"]] * 3,
            total_charge=frame["total_charge"],
        )  # fmt: skip
        found = model.predict(s)
        assert found.energy / HARTREE == pytest.approx(frame["energy"], abs=1e-10)
        np.testing.assert_allclose(found.charges, frame["charge"], atol=1e-10)
        np.testing.assert_allclose(found.forces / HARTREE * BOHR, frame["forces"], atol=1e-10)
        if "numerical_stress" in frame:
            stress = found.stress / HARTREE * BOHR**3
            np.testing.assert_allclose(stress, frame["numerical_stress"], atol=1e-8)


@pytest.mark.parametrize("generation", [3, 4])
@pytest.mark.parametrize("units", ["bohr-hartree", "angstrom-ev"])
def test_what_is_written_is_what_is_read(tmp_path: Path, generation: int, units: str) -> None:
    """Energies, forces and charges, in either unit, charged or not, periodic or not."""
    model = load(HandCharges(generation).write(tmp_path / "hand"), units="bohr-hartree")
    write_runner_potential(model.atomic_model(), tmp_path / "written", units)
    again = load(tmp_path / "written")
    symbols, positions = cluster()
    for total, cell in ((0.0, np.eye(3) * 9.0), (1.0, np.zeros((3, 3)))):
        s = Structure(symbols, positions * BOHR, cell, [bool(cell.any())] * 3, total_charge=total)
        before, after = model.predict(s), again.predict(s)
        assert after.energy == pytest.approx(before.energy, abs=1e-9)
        np.testing.assert_allclose(after.charges, before.charges, atol=1e-11)
        np.testing.assert_allclose(after.forces, before.forces, atol=1e-9)


def test_charges_without_words_in_the_format_are_refused(tmp_path: Path) -> None:
    model = load(HandCharges(3).write(tmp_path / "hand"), units="bohr-hartree").atomic_model()
    model.widths.fill_(0.5)
    with pytest.raises(InputError, match="point charges, not Gaussian"):
        write_runner_potential(model, tmp_path / "written")
    model.generation = "latent"
    with pytest.raises(InputError, match="cannot express latent charges"):
        write_runner_potential(model, tmp_path / "written")
    assert not (tmp_path / "written").exists()
