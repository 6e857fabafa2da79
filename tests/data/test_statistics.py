"""Statistics against hand-made numbers and against the tables that came with the real data."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from ase.data import atomic_masses
from ase.geometry import get_distances
from data_tools import emt_copper, real_data, water
from rich.console import Console

from nnpkit.data.distances import shortest_distances
from nnpkit.data.formats.reading import read
from nnpkit.data.statistics import data_statistics, statistics_table
from nnpkit.data.structure import Structure


def test_two_molecules() -> None:
    frames = [water(energy=-14.0, name="a"), water(energy=-15.5, name="b").replace(stress=None)]
    found = data_statistics(frames)
    assert (found["n_structures"], found["n_atoms"], found["n_periodic"]) == (2, 6, 2)
    assert found["elements"] == {"H": 4, "O": 2}
    assert found["labels"] == {"energy": 2, "forces": 2, "stress": 1, "charges": 0, "dipole": 0}
    assert found["energy_per_atom"] == pytest.approx(
        {"min": -15.5 / 3, "max": -14 / 3, "mean": -29.5 / 6, "std": 0.25}
    )
    assert found["forces"]["component_rms"] == pytest.approx(np.sqrt((0.05 + 0.14 + 0.19) / 9))
    assert found["forces"]["component_max"] == pytest.approx(0.3)
    assert found["forces"]["vector_max"] == pytest.approx(np.sqrt(0.19))
    assert found["forces"]["net_max"] == pytest.approx(0.0, abs=1e-15)
    assert found["pressure"]["mean"] == pytest.approx(-0.02 / 3 * 160.2176634)
    assert found["stress"]["component_max"] == pytest.approx(0.03 * 160.2176634)
    assert found["density"]["mean"] == pytest.approx(18.015 / 6.02214076e23 / 210e-24, rel=1e-6)
    assert json.loads(json.dumps(found)) == found


def test_nothing_to_tell() -> None:
    atom = Structure(["He"], np.zeros((1, 3)), name="atom")
    found = data_statistics([atom])
    for key in ("energy_per_atom", "forces", "stress", "pressure", "density"):
        assert found[key] is None
    assert found["min_distance"] == {}
    Console(file=open("/dev/null", "w"), width=80).print(statistics_table({"data": found}))  # noqa: SIM115


def test_shortest_distances_against_ase() -> None:
    frames = [*emt_copper(n=4, rattle=0.2), water(name="w")]
    found = shortest_distances(frames)
    for pair, (distance, name) in found.items():
        a, b = pair.split("-")
        expected = {}
        for structure in frames:
            _, lengths = get_distances(structure.positions, cell=structure.cell, pbc=structure.pbc)
            symbols = np.array(structure.symbols)
            lengths = lengths[np.ix_(symbols == a, symbols == b)]
            if lengths.size:
                expected[structure.name] = lengths[lengths > 0].min(initial=np.inf)
        if pair != "O-O":  # of one molecule in its box: images, which ASE's minimum image leaves out
            assert distance == pytest.approx(min(expected.values()), rel=1e-12)
            assert expected[name] == min(expected.values())
    assert found["O-O"].distance == pytest.approx(5.0)
    assert list(found) == ["Cu-Cu", "H-H", "H-O", "O-O"]


def test_table_has_every_row() -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    parts = {"train": data_statistics([water()]), "test": data_statistics(emt_copper(n=2))}
    console.print(statistics_table(parts))
    text = console.export_text()
    for row in (
        "structures",
        "atoms of H",
        "atoms of Cu",
        "structures with stress",
        "energy, eV/atom",
        "forces, eV/Å",
    ):
        assert row in text
    assert re.search(r"shortest H-O, Å\s*│\s*0.960", text)


# name, structures, atoms, energy per atom (mean, std), RMS and largest force component, shortest distance,
# density (lowest, highest), pressure (lowest, highest) of the READMEs, which were measured with ASE
TABLE = [
    ("mlearn/Cu_test", 31, 3178, -3.94473, 0.19102, 0.8788, 6.909, 1.830, (4.462, 9.916), (-11.07, 21.42)),
    ("mlearn/Cu_train", 262, 27416, -3.97405, 0.16385, 0.7818, 10.271, 1.832, (4.462, 9.916), (-11.07, 22.79)),
    ("mlearn/Li_train", 241, 11576, -1.82113, 0.04998, 0.2570, 1.616, 2.001, (0.283, 0.636), (-0.75, 3.26)),
    ("mlearn/Si_train", 214, 13233, -5.11853, 0.30588, 0.8736, 9.466, 1.829, (1.141, 2.655), (-6.70, 11.83)),
    ("TiO2_aenet/test", 100, 2064, -841.43953, 13.06681, 0.8062, 2.995, 1.683, (2.354, 5.490), None),
    ("water_PBE0TS_deepmd/valid", 80, 15360, -155.95581, 0.00325, 0.8175, 5.994, 0.876, (0.993, 0.993), None),
    ("water_SCAN_ice-liquid/valid_192atoms", 101, 19392, -155.80825, 0.02106, 0.9874, 61.122, 0.606,
     (0.911, 1.038), None),
    ("water_revPBE0-D3_cnnp/gen1_train", 111, 21312, -156.45866, 0.00387, 0.8143, 4.497, 0.892, (0.999, 0.999), None),
    ("pwmlff_Cu/Cu72_300K", 100, 7200, -4967.77841, 0.01940, 0.3827, 1.336, 2.316, (8.888, 8.888), None),
    ("n2p2_examples/DMABN_SCAN_21", 21, 441, -99.54436, 0.01958, 1.6453, 7.510, 0.961, None, None),
    ("n2p2_examples/Carbon_chain_4G_128", 128, 1598, -833.44979, 32.91384, 0.9739, 5.651, 1.013, None, None),
    ("n2p2_examples/H2O_RPBE-D3_20", 20, 2064, -694.46737, 0.03114, 1.3764, 13.157, 0.801, (0.865, 1.000), None),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_real_data(row: tuple) -> None:
    name, n_structures, n_atoms, mean, std, rms, largest, distance, density, pressure = row
    found = data_statistics(read(real_data(f"{name}.xyz.xz")))
    assert (found["n_structures"], found["n_atoms"]) == (n_structures, n_atoms)
    assert found["energy_per_atom"]["mean"] == pytest.approx(mean, abs=5.1e-6)
    assert found["energy_per_atom"]["std"] == pytest.approx(std, abs=5.1e-6)
    assert found["forces"]["component_rms"] == pytest.approx(rms, abs=6e-5)
    assert found["forces"]["component_max"] == pytest.approx(largest, abs=6e-4)
    assert min(d["distance"] for d in found["min_distance"].values()) == pytest.approx(distance, abs=6e-4)
    for key, expected, tolerance in (("density", density, 6e-4), ("pressure", pressure, 6e-3)):
        if expected is None:
            assert found[key] is None
        else:
            assert (found[key]["min"], found[key]["max"]) == pytest.approx(expected, abs=tolerance)


def test_masses_are_standard_atomic_weights() -> None:
    assert atomic_masses[1] == pytest.approx(1.008)
