"""Potentials with charges: sums of charges, derivatives, response, what is refused. Any family, all generations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnpkit.data.graph import build_graph, collate
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model, initialise
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.charged_potential import ChargedPotential
from nnpkit.models.electrostatics import COULOMB, coulomb_interaction, lattice_sum

ELEMENTS = ["H", "O"]
WIDTHS = {"H": 0.4, "O": 0.9}
FAMILIES = {
    "acsf": {
        "cutoff_kind": "poly2", "cutoff_inner": 0.0,
        "functions": [
            {"kind": "G2", "center": a, "neighbors": [b], "cutoff": 4.0, "eta": eta}
            for a in ELEMENTS for b in ELEMENTS for eta in (0.05, 0.6)
        ] + [{"kind": "G9", "center": "O", "neighbors": ["H", "H"], "cutoff": 4.0, "eta": 0.1, "zeta": 2.0}],
    },
    "chebyshev": {"descriptor": {"radial_order": 4, "radial_cutoff": 4.0, "angular_order": 2, "angular_cutoff": 3.0,
                                 "cutoff_kind": "cosine", "weights": {"H": -1.0, "O": 1.0}}},
    "deep_potential": {"descriptor": {"cutoff": 4.0, "smooth_from": 1.0, "cutoff_kind": "poly3", "embedding": [4],
                                      "axis_neurons": 2, "activation": "tanh", "timestep": False, "one_side": True}},
    "cluster_expansion": {"descriptor": {
        "radial_cutoff": 4.0, "angular_cutoff": 3.1, "cutoff_kind": "poly3", "radial_channels": 3, "radial_basis": 5,
        "angular_channels": 2, "angular_basis": 4, "invariants": [[1, 1], [2, 2], [1, 1, 2]],
    }},
}  # fmt: skip


def make_model(
    generation: str, family: str = "acsf", channels: int = 1, seed: int = 4, **changes
) -> ChargedModel:
    """A small model with random weights and large charges."""
    one = {"hidden": [4], "activations": ["tanh", "linear"]}
    network = {"hidden": [4], "activation": "tanh", "timestep": False} if family == "deep_potential" else one
    point = generation == "third"
    charges = {
        "generation": generation, "networks": dict.fromkeys(ELEMENTS, one), "channels": channels, "scale": 1.0,
        "widths": dict.fromkeys(ELEMENTS, 0.0) if point else WIDTHS, "screening": None if generation == "latent" else
        [0.5, 3.5], "charge_input": generation == "fourth", "accuracy": 1e-13, **changes,
    }  # fmt: skip
    model = build_model({
        "kind": "charged", "family": family, "charges": charges, "elements": ELEMENTS, "networks":
        dict.fromkeys(ELEMENTS, network), "reference_energies": {"H": -1.0, "O": -5.0}, "wall": {"H-O": 1.4},
        **FAMILIES[family],
    })  # fmt: skip
    initialise(model, "xavier", seed)
    with torch.no_grad():
        for networks in model.charge_networks:
            for t, own in enumerate(networks.networks):
                own.shift_and_stretch(0.0, -0.7 * t, 1.5)
        if generation == "fourth":
            model.hardness_root.copy_(torch.tensor([2.5, 2.0]))
    assert isinstance(model, ChargedModel)
    return model


def structure(periodic: bool = True, total_charge: float = 0.0, seed: int = 2) -> Structure:
    """Two water molecules, bent and turned, in a triclinic cell or without one."""
    random = np.random.default_rng(seed)
    water = np.array([[0.0, 0.0, 0.0], [0.0, 0.76, 0.59], [0.0, -0.76, 0.59]])
    positions = np.concatenate([water, water[:, [1, 2, 0]] + [2.6, 0.7, 1.1]]) + 0.05 * random.normal(
        size=(6, 3)
    )
    cell = np.array([[5.0, 0.0, 0.0], [0.9, 5.5, 0.0], [-0.7, 0.6, 4.8]])
    return Structure(
        ["O", "H", "H"] * 2, positions, cell if periodic else np.zeros((3, 3)), [periodic] * 3,
        total_charge=total_charge, name="waters",
    )  # fmt: skip


def predict(model: ChargedModel, s: Structure):
    return ChargedPotential(model).predict(build_graph(s, model.elements, model.cutoff))


CASES = [
    ("third", "acsf", True), ("fourth", "acsf", True), ("latent", "acsf", True), ("third", "chebyshev", False),
    ("fourth", "deep_potential", True), ("fourth", "chebyshev", False), ("latent", "deep_potential", False),
]  # fmt: skip


def test_matrices_of_all_pairs_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, s = make_model("third"), structure()
    monkeypatch.setattr("nnpkit.models.charged_model.free_memory", lambda: 10_000)
    with pytest.raises(
        InputError, match=r"the interactions of 6 atoms need 1.5e-05 GB of memory, 1e-05 GB are free"
    ):
        predict(model, s)
    monkeypatch.setattr("nnpkit.models.charged_model.free_memory", lambda: 20_000)
    predict(model, s)


@pytest.mark.parametrize(("generation", "family", "periodic"), CASES)
def test_forces_and_virial_are_derivatives_of_the_energy(
    generation: str, family: str, periodic: bool
) -> None:
    """The response of all charges is part of them."""
    model, s, h = make_model(generation, family), structure(periodic, 1.0), 4e-4
    found = predict(model, s)

    def difference(of) -> float:
        e = [float(predict(model, of(k * h)).energy) for k in (1, -1, 2, -2, 3, -3)]
        return (45.0 * (e[0] - e[1]) - 9.0 * (e[2] - e[3]) + (e[4] - e[5])) / (60.0 * h)

    def moved(atom: int, axis: int):
        def at(step: float) -> Structure:
            positions = s.positions.copy()
            positions[atom, axis] += step
            return s.replace(positions=positions)

        return at

    def strained(a: int, b: int):
        def at(step: float) -> Structure:
            strain = np.eye(3)
            strain[a, b] += step
            return s.replace(positions=s.positions @ strain, cell=s.cell @ strain)

        return at

    for atom, axis in ((0, 1), (4, 2)):
        expected = -difference(moved(atom, axis))
        assert float(found.forces[atom, axis]) == pytest.approx(expected, rel=1e-7, abs=3e-7)
    for a, b in ((0, 0), (0, 2)):
        assert float(found.virial[0, a, b]) == pytest.approx(-difference(strained(a, b)), rel=1e-7, abs=3e-7)
    assert float(found.forces.sum(0).abs().max()) < 1e-9


@pytest.mark.parametrize("generation", ["third", "fourth", "latent"])
def test_charges_add_up_and_matter(generation: str) -> None:
    model = make_model(generation, channels=2 if generation == "latent" else 1)
    neutral, ion = predict(model, structure()), predict(model, structure(total_charge=1.0))
    assert float(neutral.charges.sum(1).abs().max()) < 1e-12
    assert ion.charges.sum(1).tolist()[0] == pytest.approx(1.0)
    assert float(neutral.charges[0].abs().min()) > 0.01
    assert abs(float(ion.energy - neutral.energy)) > 0.1


def test_fourth_generation_charges_are_the_minimum_of_their_energy() -> None:
    """Against scipy, and their response to electronegativities against the inverse."""
    from scipy.optimize import minimize

    model, s = make_model("fourth"), structure(False, 1.0)
    graph = build_graph(s, ELEMENTS, model.cutoff)
    types = graph.types
    with torch.no_grad():
        edges = (torch.zeros(0, 3, dtype=torch.float64), types[:0], torch.zeros(7, dtype=torch.int64), types)
        features = model.scaling(model.descriptor(*edges), types)
        chi = model.charge_networks[0](features, types).numpy()
        bare = model.electrostatics(graph.positions, graph.cells[0], (False,) * 3, types).bare.matrix
        charges = model.charges(features, types, bare, 1.0)[0].numpy()
    widths = np.array([WIDTHS[e] for e in s.symbols])
    own = COULOMB / (widths * np.sqrt(np.pi)) + np.where(types.numpy() == 0, 2.5**2, 2.0**2)
    matrix = bare.numpy() + np.diag(own)

    def energy(q: np.ndarray) -> float:
        return chi @ q + 0.5 * q @ matrix @ q

    found = minimize(
        energy, np.full(6, 1 / 6), jac=lambda q: chi + matrix @ q, method="SLSQP", options={"ftol": 1e-15},
        constraints={"type": "eq", "fun": lambda q: q.sum() - 1.0, "jac": lambda q: np.ones(6)},
    ).x  # fmt: skip
    np.testing.assert_allclose(charges, found, atol=1e-6)


def test_third_generation_energy_is_coulombs_law_with_screening() -> None:
    model, s = make_model("third"), structure(False)
    neutral = predict(model, s)
    q = neutral.charges[0].numpy()
    expected = 0.0
    for i in range(6):
        for j in range(i):
            r = np.linalg.norm(s.positions[i] - s.positions[j])
            x = min(max((r - 0.5) / 3.0, 0.0), 1.0)
            expected += COULOMB * q[i] * q[j] / r * 0.5 * (1.0 - np.cos(np.pi * x))
    with torch.no_grad():
        for network in model.networks.networks:
            network.shift_and_stretch(0.0, 0.0, 0.0)
        model.terms = None
    assert float(predict(model, s).energy) == pytest.approx(expected - 2 * 5.0 - 4 * 1.0, abs=1e-10)


def test_several_structures_at_once_are_each_by_itself() -> None:
    model = make_model("fourth")
    some = [structure(True), structure(False, 1.0, seed=5)]
    graphs = [build_graph(s, ELEMENTS, model.cutoff) for s in some]
    together, apart = ChargedPotential(model)(collate(graphs)), [ChargedPotential(model)(g) for g in graphs]
    for name, axis in (("energy", 0), ("forces", 0), ("virial", 0), ("charges", 1)):
        expected = torch.cat([getattr(one, name) for one in apart], dim=axis)
        np.testing.assert_allclose(getattr(together, name), expected.detach(), atol=1e-10)


def test_slow_and_fast_evaluation_agree() -> None:
    for generation in ("third", "fourth", "latent"):
        model, s = make_model(generation), structure()
        slow = ChargedPotential(model)(build_graph(s, ELEMENTS, model.cutoff))
        fast = ChargedPotential(model).predict(build_graph(s, ELEMENTS, model.cutoff), atoms_per_chunk=2)
        for name in ("energy", "atomic_energy", "forces", "virial", "charges"):
            np.testing.assert_allclose(getattr(fast, name), getattr(slow, name).detach(), atol=1e-10)


def test_a_dimer_far_apart_has_coulombs_force() -> None:
    """Beyond the cutoff a short-range potential knows of no force; latent charges do."""
    model = make_model("latent")
    s = Structure(["O", "H"], [[0.0, 0.0, 0.0], [0.0, 0.0, 12.0]], name="far")
    found = predict(model, s)
    q = found.charges[0].tolist()
    assert abs(q[0]) > 0.05
    assert float(found.forces[1, 2]) == pytest.approx(COULOMB * q[0] * q[1] / 144.0, rel=1e-10)


def test_a_charged_cell_has_the_energy_of_its_background() -> None:
    """In a larger and larger cell the energy of an ion goes to that of the open one, as -2.837 q^2 / (2 L)."""
    model = make_model("third", screening=None)
    ion = Structure(["O"], np.zeros((1, 3)), total_charge=1.0)
    open_, cell = float(predict(model, ion).energy), 30.0
    periodic = ion.replace(cell=np.eye(3) * cell, pbc=np.full(3, True))
    assert float(predict(model, periodic).energy) - open_ == pytest.approx(
        -2.837297479480619 * COULOMB / (2 * cell), abs=1e-9
    )


def test_charges_without_equilibrium_are_an_error() -> None:
    """Wide charges close to each other with a hardness that the interaction exceeds."""
    model = make_model("fourth")
    types, features = (
        torch.tensor([0, 0]),
        torch.zeros(2, max(model.descriptor.n_features), dtype=torch.float64),
    )
    bare = torch.tensor([[0.0, 500.0], [500.0, 0.0]], dtype=torch.float64)
    with pytest.raises(InputError, match=r"no equilibrium: with the charge of atom 1"):
        model.charges(features, types, bare, 0.0)


def test_environments_alone_are_refused() -> None:
    with pytest.raises(InputError, match="whole structures"):
        make_model("third")(torch.zeros(0, 3), torch.zeros(0), torch.zeros(1), torch.zeros(0))


def test_wires_are_refused_by_name() -> None:
    s = structure().replace(pbc=np.array([False, True, False]))
    with pytest.raises(InputError, match="pbc F T F"):
        predict(make_model("third"), s)


def test_gaussians_wider_than_the_cell_are_summed_right() -> None:
    """Energies do not depend on how often the cell is repeated."""
    widths = {"H": 2.5, "O": 3.0}
    model, s = make_model("fourth", widths=widths), structure()
    double = Structure(
        s.symbols * 2,
        np.concatenate([s.positions, s.positions + s.cell[0]]),
        s.cell * [[2], [1], [1]],
        [True] * 3,
    )
    one, two = predict(model, s), predict(model, double)
    assert 2.0 * float(one.energy) == pytest.approx(float(two.energy), abs=1e-8)
    np.testing.assert_allclose(two.charges[0, :6], one.charges[0], atol=1e-9)
    lattice = lattice_sum(torch.tensor(s.positions), torch.tensor(s.cell), (True,) * 3, 3.0)
    bare = coulomb_interaction(
        torch.tensor(s.positions), torch.tensor(s.cell), torch.full((6,), 3.0).double(), lattice
    )
    own = COULOMB / (3.0 * np.sqrt(np.pi))
    assert float(torch.linalg.eigvalsh(bare.matrix + own * torch.eye(6)).min()) > -1e-8
