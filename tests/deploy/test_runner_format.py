"""Reading potentials of RuNNer and n2p2: plain loops over the same files are the judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runner_by_hand import FUNCTIONS, HandPotential
from small_models import cluster

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.deploy.imports.runner_potential import read_runner_potential
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.families.acsf.runner_settings import read_settings, symmetry_functions


def assert_agreement(hand: HandPotential, folder: Path, **units: object) -> None:
    """The reader's model and the loops give the same energies."""
    structure = cluster()
    result = load(hand.write(folder), **(units or {"units": "bohr-hartree"})).predict(structure)
    expected = hand.atomic_energies(structure.symbols, structure.positions, structure.cell)
    np.testing.assert_allclose(result.energies, expected, rtol=1e-13, atol=1e-12 * hand.energy)


@pytest.mark.parametrize("cutoff_type", range(9))
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_cutoff_functions(tmp_path: Path, cutoff_type: int, alpha: float) -> None:
    if cutoff_type != 4 or alpha == 0.0:
        assert_agreement(HandPotential(cutoff_type=cutoff_type, alpha=alpha), tmp_path)


@pytest.mark.parametrize("scaling", [(), ("scale",), ("center",), ("scale", "center"), ("sigma",)])
def test_scaling(tmp_path: Path, scaling: tuple[str, ...]) -> None:
    assert_agreement(HandPotential(scaling=scaling), tmp_path)


@pytest.mark.parametrize("letters", ["ltl", "spl", "gcl", "rSl", "ehl", "ttp"])
def test_activation_functions(tmp_path: Path, letters: str) -> None:
    assert_agreement(HandPotential(letters=letters), tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"normalize_nodes": True},
        {"normalisation": (-12.5, 37.0), "atom_energy": {"O": -75.0, "H": -0.5}},
        {"bare_weights": True},
        {
            "nodes": {"H": [4, 3], "O": [5, 2]},
            "extra": ("element_nodes_short O 1 5", "element_nodes_short O 2 2"),
        },
    ],
    ids=lambda options: next(iter(options)),
)
def test_options(tmp_path: Path, options: dict) -> None:
    assert_agreement(HandPotential(**options), tmp_path)


def test_units(tmp_path: Path) -> None:
    assert_agreement(HandPotential(length=1.0, energy=1.0), tmp_path / "a", units="angstrom-ev")
    factors = {"cflength": 1.8897261328, "cfenergy": 0.0367493254}
    hand = HandPotential(length=1 / 1.8897261328, energy=1 / 0.0367493254)
    assert_agreement(hand, tmp_path / "b", **factors)


def test_forces_are_those_of_the_loops(tmp_path: Path) -> None:
    hand, structure, step = HandPotential(), cluster(), 1e-4
    forces = load(hand.write(tmp_path), units="bohr-hartree").predict(structure).forces
    for atom, axis in ((0, 0), (4, 2), (7, 1)):
        energies = []
        for sign in (2, 1, -1, -2):
            positions = structure.positions.copy()
            positions[atom, axis] += sign * step
            energies.append(hand.atomic_energies(structure.symbols, positions, structure.cell).sum())
        derivative = (8 * (energies[1] - energies[2]) - (energies[0] - energies[3])) / (12 * step)
        assert forces[atom, axis] == pytest.approx(-derivative, abs=2e-8)


def test_order_and_values_of_the_symmetry_functions(tmp_path: Path) -> None:
    hand, structure = HandPotential(), cluster()
    model = read_runner_potential(hand.write(tmp_path), units="angstrom-ev").model
    assert model.elements == ["H", "O"]
    graph = build_graph(structure, model.elements, model.cutoff)
    values = model.features(edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
    loops = hand.symmetry_functions(structure.symbols, structure.positions, structure.cell)
    for row, expected in zip(values, loops, strict=True):
        np.testing.assert_allclose(row[: len(expected)], expected, rtol=1e-12, atol=1e-14)


def test_functions_for_all_elements(tmp_path: Path) -> None:
    def functions(*lines: str) -> list[str]:
        path = tmp_path / "input.nn"
        path.write_text("\n".join(["elements O H", *lines]))
        return [str(f.function) for group in symmetry_functions(read_settings(path)).values() for f in group]

    short = functions("global_symfunction_short 2 0.1 0.0 6.0", "element_symfunction_short O 3 0.1 1 2 6.0")
    pairs = [f"symfunction_short O 3 {pair} 0.1 1 2 6.0" for pair in ("H H", "O H", "O O")]
    long = [f"symfunction_short {a} 2 {b} 0.1 0.0 6.0" for a in "HO" for b in "HO"]
    assert short == functions(*long, *pairs)
    assert len(short) == 7
    assert functions("global_symfunction_short_atomic 9 0.1 1 2 6.0") == functions(
        "global_symfunction_short 9 0.1 1 2 6.0"
    )


# What cannot be read


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_runner_potential(folder, units="bohr-hartree")
    message = str(caught.value)
    assert message.startswith(str(folder))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nnp_gen 5", "nnp_gen 5 is not supported"),
        ("nn_type_short 2", "nn_type_short 2"),
        ("use_electrostatics", "use_electrostatics"),
        ("committee_mode prediction", "committee_mode prediction"),
        ("global_pairsymfunction_short 2 0.1 0.0 6.0", "pair symmetry functions"),
        ("symfunction_short H 12 0.1 0.0 6.0", "type 12"),
        ("symfunction_short H 21 H O 1 6 20 160", "type 21"),
        ("symfunction_short H 2 H 0.1 6.0", "2 numbers"),
        ("symfunction_short H 2 H 0.1 0.0 zero", "'zero' is not a number"),
        ("symfunction_short H 2 H 0.1 0.0 0.0", "cutoff 0"),
        ("symfunction_short H 2 He 0.1 0.0 6.0", "element He of a symmetry function"),
        ("symfunction_short H two H", "symmetry function"),
        ("elements O H", "elements stands here and on line"),
        ("element_activation_short H 1 1 t", "single nodes"),
        ("element_activation_short H t", "3 of the letters"),
        ("atom_energy H", "atom_energy"),
    ],
)
def test_lines_that_are_refused(tmp_path: Path, line: str, words: str) -> None:
    folder = HandPotential(extra=(line,)).write(tmp_path)
    number = (folder / "input.nn").read_text().splitlines().index(line) + 1
    if words.startswith("elements stands"):
        number = 4
    refused(folder, f"input.nn, line {number}:", words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("cutoff_type 1 0.0", "cutoff_type 9", "cutoff_type 9"),
        ("cutoff_type 1 0.0", "cutoff_type 4 0.2", "inner cutoff"),
        ("cutoff_type 1 0.0", "cutoff_type 1 1.5", "alpha"),
        ("elements O H", "elements O X", "chemical symbols"),
        ("elements O H", "elements O", "number_of_elements 2"),
        ("elements O H", "#", "elements is missing"),
        ("t t l", "t x l", "activation functions"),
        ("t t l", "t t t l", "3 layers"),
        ("global_nodes_short 4 3", "global_nodes_short 4 4", "hidden layers of [4, 3]"),
        ("scale_min_short", "mean_energy -1\nscale_min_short", "mean_energy of the normalisation"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = HandPotential().write(tmp_path) / "input.nn"
    path.write_text(path.read_text().replace(old, new))
    refused(tmp_path, words)


def test_element_without_functions(tmp_path: Path) -> None:
    path = HandPotential().write(tmp_path) / "input.nn"
    path.write_text(
        "\n".join(x for x in path.read_text().splitlines() if not x.startswith("symfunction_short H"))
    )
    refused(tmp_path, "no symmetry functions of element H")


@pytest.mark.parametrize("name", ["scaling.data", "weights.001.data", "weights.008.data"])
def test_missing_empty_and_truncated_tables(tmp_path: Path, name: str) -> None:
    path = HandPotential().write(tmp_path) / name
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-5]))
    refused(tmp_path, name)
    path.write_text("".join(lines[:3]) + "nonsense " + "".join(lines[3:]))
    refused(tmp_path, name)
    path.write_text("# nothing\n")
    refused(tmp_path, name, "empty")
    path.unlink()
    refused(tmp_path, name, "cannot be read")


def test_bare_weights_of_another_network(tmp_path: Path) -> None:
    path = HandPotential(bare_weights=True).write(tmp_path) / "weights.001.data"
    path.write_text(path.read_text() + "0.5\n")
    refused(tmp_path, "weights.001.data", "expected", f"{len(FUNCTIONS['H'])}-4-3-1")


def test_weights_of_another_set_of_functions(tmp_path: Path) -> None:
    path = HandPotential().write(tmp_path) / "input.nn"
    path.write_text(path.read_text() + "symfunction_short O 2 O 9.0 0.0 6.0\n")
    refused(tmp_path, "weights.008.data", "5 inputs", "6 symmetry functions of O")


# What the user is told


def test_inferred_units_are_told(tmp_path: Path) -> None:
    path = HandPotential().write(tmp_path) / "input.nn"
    path.write_text(path.read_text() + "symfunction_short O 2 O 9.0 0.0 12.0\n")
    notes = read_runner_potential_of_changed(path)
    assert len(notes) == 1
    assert "units bohr-hartree, since its cutoff 12 is too long to be in Å" in notes[0]


def read_runner_potential_of_changed(path: Path) -> list[str]:
    """Notes of a potential whose oxygen has got one more function, after its weights and scaling."""
    weights = path.with_name("weights.008.data")
    weights.write_text("".join(f"0.0 a {k} 0 6 1 {k}\n" for k in range(1, 5)) + weights.read_text())
    scaling = path.with_name("scaling.data")
    scaling.write_text(scaling.read_text() + "    2     6  0.0  1.0  0.5  0.1\n")
    loaded = load(path.parent)
    assert loaded.metadata["source"]["units"] == "bohr-hartree"
    return loaded.notes


def test_given_units_need_no_words(tmp_path: Path) -> None:
    assert load(HandPotential().write(tmp_path), units="bohr-hartree").notes == []


def test_atomic_energies_that_runner_would_not_add(tmp_path: Path) -> None:
    hand = HandPotential(atom_energy={"O": -75.0}, extra=("runner_mode 3",))
    assert "remove_atom_energies" in load(hand.write(tmp_path), units="bohr-hartree").notes[0]
