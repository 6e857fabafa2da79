"""The cluster expansion: inherited physics, harmonics, invariants and NEP's conventions against their definitions."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import sph_harm_y

from nnpkit.config.schema import Config
from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.families.cluster_expansion.expansion_cutoffs import cutoffs_for
from nnpkit.families.cluster_expansion.expansion_descriptor import ClusterExpansion, Polynomials
from nnpkit.families.cluster_expansion.expansion_sizes import supported_expansion
from nnpkit.families.cluster_expansion.harmonics import harmonics, harmonics_gradient
from nnpkit.families.cluster_expansion.invariants import invariant_terms, vanishes
from nnpkit.families.cluster_expansion.polynomial_derivatives import PolynomialDerivatives
from nnpkit.families.cluster_expansion.radial import orthonormal_combinations, radial_functions
from nnpkit.families.cluster_expansion.settings import ClusterExpansionModel, ExpansionDescriptor
from nnpkit.families.factory import build_model, initialise
from nnpkit.families.registered import family_of
from nnpkit.measure.autograd import AutogradObserver, GraphStore
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.models.scaling import feature_statistics
from nnpkit.testing.model_suite import AtomicModelSuite, model_inputs
from nnpkit.testing.trial_structures import random_structure

LISTS = [[1, 1], [2, 2], [3, 3], [1, 1, 2], [2, 2, 2], [1, 2, 3], [1, 1, 1, 1], [1, 1, 2, 2]]
SETTINGS = {
    "radial_cutoff": 3.6, "angular_cutoff": 3.1, "cutoff_kind": "cosine", "radial_channels": 3, "radial_basis": 5,
    "angular_channels": 2, "angular_basis": 4, "invariants": LISTS,
}  # fmt: skip


def make_model(elements=("H", "O"), wall=None, kind="cluster_expansion", **changes):
    """A small model, its radial coefficients and networks drawn from a fixed seed, scaled on random structures."""
    elements = list(elements)
    hidden = [6] if kind == "nep" else [6, 5]
    networks = {e: {"hidden": hidden, "activations": ["tanh"] * len(hidden) + ["linear"]} for e in elements}
    model = build_model(
        {
            "kind": kind, "elements": elements, "networks": networks, "energy_scale": 1.7,
            "descriptor": {**SETTINGS, **changes}, "wall": wall or {},
            "reference_energies": {e: -3.0 - t for t, e in enumerate(elements)},
        }
    )  # fmt: skip
    initialise(model, "modified_xavier", seed=11)
    generator = torch.Generator().manual_seed(7)
    graph = build_graph(random_structure(elements, 10, seed=1), elements, model.cutoff)
    with torch.no_grad():
        for weights in (model.descriptor.radial_weights, model.descriptor.angular_weights):
            weights += 0.3 * torch.randn(weights.shape, generator=generator, dtype=torch.float64)
        statistics = feature_statistics(model.features(*model_inputs(graph)), graph.types, len(elements))
    model.scaling.set(statistics, "minmax", -1.0, 1.0)
    return model


class TestClusterExpansion(AtomicModelSuite):
    @pytest.fixture
    def model(self):  # finite differences across a cutoff need derivatives there
        lists = [[1, 1], [3, 3], [1, 1, 2], [1, 1, 2, 2]]
        return make_model(cutoff_kind="poly3", angular_basis=3, angular_cutoff=3.6, invariants=lists)


class TestNepOfOneElement(AtomicModelSuite):
    @pytest.fixture
    def model(self):
        lists = [[1, 1], [2, 2], [2, 2, 2], [1, 1, 1, 1]]
        return make_model(
            ["Cu"], {"Cu-Cu": 2.2}, "nep", cutoff_kind="poly3", invariants=lists, angular_cutoff=3.9
        )


def unit_vectors(n: int, seed: int = 0) -> torch.Tensor:
    vectors = torch.as_tensor(np.random.default_rng(seed).normal(size=(n, 3)))
    return vectors / vectors.norm(dim=1, keepdim=True)


def test_harmonics_are_those_of_scipy():
    unit = unit_vectors(7)
    theta, phi = np.arccos(unit[:, 2].numpy()), np.arctan2(unit[:, 1].numpy(), unit[:, 0].numpy())
    columns = []
    for degree in range(1, 7):
        columns.append(sph_harm_y(degree, 0, theta, phi).real)
        for order in range(1, degree + 1):
            value = (-1) ** order * math.sqrt(2.0) * sph_harm_y(degree, order, theta, phi)
            columns += [value.real, value.imag]
    np.testing.assert_allclose(harmonics(unit, 6).numpy(), np.stack(columns, axis=1), atol=1e-13)


def test_gradients_of_harmonics_are_tangential_derivatives():
    unit = unit_vectors(5).requires_grad_(True)
    rows = [torch.autograd.grad(column.sum(), unit, retain_graph=True)[0] for column in harmonics(unit, 5).T]
    expected = torch.stack(rows, dim=1)
    found = harmonics_gradient(unit.detach(), 5).permute(2, 0, 1)
    across = torch.linalg.cross(unit.detach(), unit_vectors(5, seed=9)).unsqueeze(2)  # tangential
    assert torch.allclose(found @ across, expected.detach() @ across, atol=1e-13)


def test_invariants_are_sums_over_tuples_of_neighbours():
    """Pairs give Legendre polynomials, NEP's factors those of its papers; all of GPUMD's constants follow."""
    unit, weight = unit_vectors(4, seed=3), torch.tensor([0.7, -1.1, 0.4, 1.9], dtype=torch.float64)
    a = torch.einsum("e,em->m", weight, harmonics(unit, 3))

    def value(degrees):
        (terms,) = invariant_terms([degrees])
        return sum(t.coefficient * math.prod(float(a[i]) for i in t.indices) for t in terms)

    cosine = unit @ unit.T
    for degree in (1, 2, 3):
        legendre = np.polynomial.legendre.legval(cosine.numpy(), np.eye(degree + 1)[degree])
        pairs = float(weight @ torch.as_tensor(legendre) @ weight)
        assert value([degree, degree]) == pytest.approx((2 * degree + 1) / (4 * math.pi) * pairs, rel=1e-12)
    x, y, z = (float(weight @ unit[:, axis]) for axis in range(3))
    assert value([1, 1, 1, 1]) == pytest.approx(0.026596810706114 * (x * x + y * y + z * z) ** 2, rel=1e-12)
    u = unit
    s = [float(weight @ v) for v in (3 * u[:, 2] ** 2 - 1, u[:, 0] * u[:, 2], u[:, 1] * u[:, 2],
                                     u[:, 0] ** 2 - u[:, 1] ** 2, 2 * u[:, 0] * u[:, 1])]  # fmt: skip
    expected = (
        -0.007499480826664 * s[0] ** 3 - 0.134990654879954 * s[0] * (s[1] ** 2 + s[2] ** 2)
        + 0.067495327439977 * s[0] * (s[3] ** 2 + s[4] ** 2) + 0.404971964639861 * s[3] * (s[2] ** 2 - s[1] ** 2)
        - 0.809943929279723 * s[1] * s[2] * s[4]
    )  # fmt: skip
    assert value([2, 2, 2]) == pytest.approx(expected, rel=1e-12)


def test_what_vanishes_has_no_terms():
    for power in (2, 3):
        for degrees in itertools.combinations_with_replacement(range(1, 4), power):
            assert vanishes(degrees) == (invariant_terms([degrees]) == [[]])
    assert vanishes([1, 1, 1, 2])
    assert not vanishes([3, 1, 2, 2])


def test_radial_functions_and_their_combinations():
    r = torch.tensor([0.3, 1.7, 3.9, 4.0, 4.5], dtype=torch.float64)
    x = 2.0 * (r.numpy() / 4.0 - 1.0) ** 2 - 1.0
    inside = np.where(r.numpy() < 4.0, 0.5 * (1.0 + np.cos(np.pi * r.numpy() / 4.0)), 0.0)
    values = radial_functions(r, 5, 4.0, "cosine").numpy()
    for k in range(5):
        expected = 0.5 * (np.polynomial.chebyshev.chebval(np.clip(x, -1, 1), np.eye(5)[k]) + 1.0) * inside
        np.testing.assert_allclose(values[:, k], expected, atol=1e-14)
    grid = torch.linspace(0.0, 1.0, 20001, dtype=torch.float64)
    mixed = radial_functions(grid, 6, 1.0, "cosine") @ orthonormal_combinations(6, "cosine").T
    product = torch.trapezoid(3.0 * grid**2 * (mixed.T[:, None] * mixed.T[None]), grid)
    assert torch.allclose(product, torch.eye(6, dtype=torch.float64), atol=1e-4)


def test_features_equal_their_definition():
    elements = ["H", "C", "N", "O", "Cu"]
    d = make_model(elements).descriptor
    graph = build_graph(random_structure(elements, 9, seed=2), elements, 4.0)
    edge_vec, neighbor_type, offsets, types = model_inputs(graph)
    features = d(edge_vec, neighbor_type, offsets, types).detach()
    assert features.shape[1] == d.n_features[0] == 3 + 2 * len(LISTS)
    r = edge_vec.norm(dim=1)
    radial, angular = d.radial_coefficients().detach(), d.angular_coefficients().detach()
    for i in range(len(types)):
        own = range(int(offsets[i]), int(offsets[i + 1]))
        sums, a = torch.zeros(3, dtype=torch.float64), torch.zeros(15, 2, dtype=torch.float64)
        for e in own:
            pair = (types[i], neighbor_type[e])
            sums += radial[pair] @ radial_functions(r[e : e + 1], 5, 3.6, "cosine")[0]
            g = angular[pair] @ radial_functions(r[e : e + 1], 4, 3.1, "cosine")[0]
            a += harmonics(edge_vec[e : e + 1] / r[e], 3)[0][:, None] * g
        expected = [float(s) for s in sums]
        for terms in invariant_terms(LISTS):
            for channel in range(2):
                products = [t.coefficient * math.prod(float(a[k, channel]) for k in t.indices) for t in terms]
                expected.append(sum(products))
        np.testing.assert_allclose(features[i].numpy(), expected, rtol=1e-10, atol=1e-12)


def test_first_channels_differ_and_tell_elements_apart():
    d = ClusterExpansion(["H", "O"], **SETTINGS)
    graph = build_graph(random_structure(["H", "O"], 8, seed=2), ["H", "O"], 4.0)
    edge_vec, neighbor_type, offsets, types = model_inputs(graph)
    features = d(edge_vec, neighbor_type, offsets, types)
    assert torch.linalg.matrix_rank(features[:, :3]) == 3
    swapped = d(edge_vec, 1 - neighbor_type, offsets, types)
    assert not torch.allclose(features[:, 1], swapped[:, 1])


def labelled(structure, seed=0):
    """The structure with labels drawn at random."""
    rng = np.random.default_rng(seed)
    structure.energy, structure.forces = -20.0, rng.normal(size=structure.positions.shape)
    stress = rng.normal(size=(3, 3))
    structure.stress = 0.5 * (stress + stress.T)
    return structure


def test_structures_prepared_anew_measure_the_same():
    model = make_model()
    structures = [labelled(random_structure(["H", "O"], n, seed=n), n) for n in (5, 6)]
    family = family_of(model.spec)
    prepare = family.preparation(model, structures)
    kept, streamed = prepare(structures[:1], 1e9, None, structures[1:]), prepare(structures, 0.0)
    assert (kept.n_kept, streamed.n_kept) == (2, 0)
    assert kept.kept_bytes > 0 == streamed.kept_bytes
    assert abs(family.prepared_bytes(model, structures) / kept.kept_bytes - 1.0) < 0.5
    labels = Labels([0, 1], True, [torch.tensor([2, 9]), torch.arange(6)], True)
    found = [
        family.observer(store, Noise(), LossWeights()).measure(labels).jacobian for store in (kept, streamed)
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("lists", [[[2, 2]], [[1, 1], [1, 1, 2]], [[1, 1, 1, 1]], LISTS])
def test_derivatives_of_invariants(lists):
    """Of terms of three bodies alone, and of any others."""
    polynomials, derivatives = Polynomials(lists), PolynomialDerivatives(lists)
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(derivatives.n_coefficients, 3, generator=generator, dtype=torch.float64)
    weights = torch.randn(len(lists), 3, generator=generator, dtype=torch.float64)
    first = torch.autograd.functional.jacobian(lambda x: polynomials(x[None])[0], a)
    second = torch.autograd.functional.hessian(lambda x: (polynomials(x[None])[0] * weights).sum(), a)
    monomials = derivatives.monomials(a)
    assert torch.allclose(derivatives.first(monomials), torch.einsum("irlr->ilr", first), atol=1e-12)
    assert torch.allclose(
        derivatives.second(monomials, weights), torch.einsum("lrkr->rlk", second), atol=1e-12
    )


def test_a_filter_begins_with_small_weights_and_keeps_them_together():
    def optimizer(**given):
        config = {"data": {"train": "x.extxyz"}, "model": {"kind": "nep"}, "training": {"optimizer": given}}
        return Config.model_validate(config).training.optimizer

    assert (optimizer().initial_covariance, optimizer().block_size) == (0.1, 2600)
    assert optimizer(initial_covariance=0.5, partition="layer").initial_covariance == 0.5
    assert optimizer(preset="rlekf").initial_covariance == 1.0
    assert optimizer(kind="adam").kind == "adam"


def test_features_of_many_bodies_begin_with_less_weight():
    def factors(weight):
        model = make_model(["Cu"], invariants=[[1, 1], [2, 2, 2], [1, 1, 1, 1]])
        data = SimpleNamespace(elements=["Cu"], train=[random_structure(["Cu"], 8, seed=n) for n in (1, 2)])
        settings = SimpleNamespace(scaling=ClusterExpansionModel().scaling, many_body_weight=weight)
        family_of(model.spec).fit(model, settings, data)
        return model.scaling.factor[0]

    expected = torch.tensor([1.0] * 5 + [0.3] * 2 + [0.09] * 2, dtype=torch.float64)
    assert torch.allclose(factors(0.3) / factors(1.0), expected)


def test_what_symmetry_makes_zero_is_not_scaled_by_its_rounding():
    model = make_model(["Si"])
    cells = [
        Structure(["Si"], np.full((1, 3), 0.1), d * np.eye(3), np.ones(3, dtype=bool))
        for d in np.linspace(2.0, 3.4, 12)
    ]
    graphs = [build_graph(cell, ["Si"], model.cutoff) for cell in cells]
    features = torch.cat([model.features(*model_inputs(graph)).detach() for graph in graphs])
    statistics = feature_statistics(features, torch.zeros(len(cells), dtype=torch.long), 1)
    model.scaling.set(statistics, "sigma", 0.0, 1.0)
    kept = [degrees for k, degrees in enumerate(LISTS) if model.scaling.factor[0, 3 + 2 * k]]
    assert kept == []  # a cubic surrounding has moments from the fourth on only
    assert (model.scaling.factor[0, :3] > 0.0).all()
    model.scaling.set(statistics, "sigma", 0.0, 1.0, exact=True)
    assert model.scaling.factor[0, 3:].max() > 1e20


def test_atoms_without_neighbours_are_measured():
    """One atom alone, two beyond the angular cutoff, and a crystal of one atom that sees its images alone."""
    model = make_model()
    alone = labelled(Structure(["O"], np.zeros((1, 3)), 50.0 * np.eye(3), [True] * 3))
    far = labelled(Structure(["O", "H"], np.array([[0.0, 0, 0], [3.4, 0, 0]]), 50.0 * np.eye(3), [True] * 3))
    images = labelled(Structure(["H"], np.zeros((1, 3)), 2.5 * np.eye(3), [True] * 3))
    structures = [alone, far, images]
    labels = Labels([0, 1, 2], True, [torch.tensor([1]), torch.tensor([0, 3]), torch.tensor([2])], True)
    store = family_of(model.spec).preparation(model, structures)(structures, 1e9)
    found = family_of(model.spec).observer(store, Noise(), LossWeights()).measure(labels)
    slow = AutogradObserver(GraphStore(model, structures, 1e9), Noise(), LossWeights()).measure(labels)
    assert torch.allclose(found.jacobian, slow.jacobian, atol=1e-10)
    assert torch.allclose(found.residual, slow.residual, atol=1e-10)
    assert store.predict(0).forces.abs().max() == 0.0


def test_cutoffs_hold_two_shells_of_what_the_data_are():
    def cutoffs(distance, **given):
        cell = distance * np.eye(3)
        lattice = [Structure(["Cs"], np.zeros((1, 3)), scale * cell, [True] * 3) for scale in (0.9, 1.0, 1.1)]
        return cutoffs_for(ExpansionDescriptor(**given), lattice)

    written = ExpansionDescriptor().model_dump()
    assert cutoffs(3.0, **written) == cutoffs(3.0)  # the configuration of a run trains the same again
    assert cutoffs(2.4) == (5.0, 5.0)
    assert cutoffs(3.0) == (6.0, 5.4)
    assert cutoffs(5.2) == (8.0, 8.0)
    assert cutoffs(3.0, radial_cutoff=5.2) == (5.2, 5.2)
    assert cutoffs(3.0, angular_cutoff=4.0) == (6.0, 4.0)
    assert cutoffs(3.0, radial_cutoff=4.0) == (4.0, 5.0)
    alone = Structure(["H"], np.zeros((1, 3)), 50.0 * np.eye(3), [True] * 3)
    assert cutoffs_for(ExpansionDescriptor(), [alone]) == (5.0, 5.0)
    hydroxyl = Structure(["O", "H"], np.array([[0.0, 0, 0], [1.0, 0, 0]]), 2.8 * np.eye(3), [True] * 3)
    assert cutoffs_for(ExpansionDescriptor(), [hydroxyl]) == (5.6, 5.04)


def test_sizes_follow_labels_and_elements():
    def size(*labels):
        return tuple(supported_expansion(dict(zip("ABCDE", labels, strict=False))))

    assert size(36_000) == (8, 16)
    assert size(12_000) == (6, 14)
    assert size(300) == (4, 10)
    assert size(40_000, 40_000) == (6, 14)
    assert size(3_000, 3_000, 3_000) == (4, 10)
    assert size(*[10**6] * 5) == (4, 10)


def test_trainings_end_when_it_has_learnt() -> None:
    def training(**given: object) -> tuple[int, int]:
        found = Config.model_validate({"data": {"train": "x.xyz"}, "training": given}).training
        return found.epochs, found.min_updates

    assert training() == (16, 2000)
    assert training(epochs=7) == (7, 0)
    assert training(min_updates=50) == (30, 50)
    assert training(time="1min") == (30, 0)
    assert training(optimizer={"kind": "adam"}) == (30, 0)


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ({}, "cluster_expansion"), ({"network": {"hidden": [3]}}, "cluster_expansion"),
        ({"descriptor": {"radial_cutoff": 4.0}}, "cluster_expansion"), ({"kind": "acsf"}, "acsf"),
        ({"descriptor": {"cutoff": 4.0}}, "acsf"), ({"descriptor": {"functions": "auto"}}, "acsf"),
    ],
)  # fmt: skip
def test_a_section_without_kind(section: dict, kind: str) -> None:
    """The default family, or the one that has these settings."""
    assert Config.model_validate({"data": {"train": "x.xyz"}, "model": section}).model.kind == kind


def test_a_wrong_name_is_one_of_the_default_family() -> None:
    with pytest.raises(ValidationError, match=r"descriptor\.cutof\b"):
        Config.model_validate({"data": {"train": "x.xyz"}, "model": {"descriptor": {"cutof": 4.0}}})
