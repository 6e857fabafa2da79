"""Observables of any kind are measured by automatic differentiation; fast measurements refuse what they do not know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_charged_model import make_model, structure

from nnpkit.errors import InputError
from nnpkit.families.registered import family_of
from nnpkit.measure.charged_structures import ChargedGraphStore, ChargedObserver
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observables import OBSERVABLES, Observable
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.testing.measurer_suite import MeasurerSuite, labelled_structures

NOISE = Noise(others={"charge": 0.02, "dipole": 0.1, "spread": 0.5})
WEIGHTS = LossWeights(others={"charge": 3.0, "dipole": 2.0, "spread": 0.7})


class Spread(Observable):
    """Mean distance of the atoms from the origin less the energy, which a test has invented."""

    what = "spread"
    extensive = True

    def label(self, structure):
        return None if structure.charges is None else 7.0

    def predicted(self, prediction, graph):
        return graph.positions.norm(dim=1).mean()[None] - prediction.energy


@pytest.fixture(autouse=True)
def spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One class is all that a kind of observables needs."""
    monkeypatch.setitem(OBSERVABLES._loaded, "spread", Spread())


def labelled():
    s = structure(periodic=False)
    rng = np.random.default_rng(3)
    return s.replace(
        energy=-30.0, forces=rng.normal(size=(6, 3)), charges=rng.normal(size=6), dipole=rng.normal(size=3)
    )


def observer_of(model, s):
    return ChargedObserver(ChargedGraphStore(model, [s], 1e9), NOISE, WEIGHTS)


def said(model, s):
    """What the potential says of charges, dipole and the invention, with independent formulas."""
    observer = observer_of(model, s)
    found = observer.store.predict(0)
    charges = found.charges[0].detach().numpy()
    spread = np.linalg.norm(s.positions, axis=1).mean() - float(found.energy)
    return np.concatenate([charges, (charges[:, None] * s.positions).sum(0), [spread]])


def test_charges_dipoles_and_inventions_are_measured() -> None:
    """Residuals, noise, rows by differences of the weights, and the loss, beside energies and forces."""
    model, s = make_model("latent", "chebyshev"), labelled()
    observer = observer_of(model, s)
    kinds = ("charge", "dipole", "spread")
    found = observer.measure(Labels([0], False, None, False, others=kinds))
    target = np.concatenate([s.charges, s.dipole, [7.0]])
    np.testing.assert_allclose(found.residual, target - said(model, s), atol=1e-11)
    np.testing.assert_allclose(found.noise, [0.02**2] * 6 + [0.1**2] * 3 + [(0.5 * 6) ** 2], rtol=1e-14)
    parameter, step, column = observer.parameters[-1], 1e-5, found.jacobian.shape[1] - 1
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter.view(-1)[-1] += sign * step
        ends.append(said(model, s))
        with torch.no_grad():
            parameter.view(-1)[-1] -= sign * step
    np.testing.assert_allclose(found.jacobian[:, column], (ends[0] - ends[1]) / (2 * step), atol=1e-7)
    assert float(found.jacobian[:9].abs().max()) > 1e-6

    both = observer.measure(Labels([0], True, [torch.tensor([1, 4])], False, others=kinds))
    torch.testing.assert_close(both.residual[3:], found.residual, rtol=0.0, atol=0.0)
    error = (said(model, s) - target) / np.array([1.0] * 9 + [6.0])
    expected = sum(
        c * np.mean(np.square(e)) for c, e in ((3.0, error[:6]), (2.0, error[6:9]), (0.7, error[9:]))
    )
    assert float(observer.loss(Labels([0], False, None, False, others=kinds)).detach()) == pytest.approx(
        expected, rel=1e-12
    )


def test_what_cannot_be_measured_is_said() -> None:
    model, s = make_model("latent", "chebyshev"), labelled()
    with pytest.raises(InputError, match="the frame has no dipole"):
        observer_of(model, s.replace(dipole=None)).measure(
            Labels([0], False, None, False, others=("dipole",))
        )
    with pytest.raises(InputError, match="no number for labels of kind charge"):
        ChargedObserver(ChargedGraphStore(model, [s], 1e9), Noise(), WEIGHTS).measure(
            Labels([0], False, None, False, others=("charge",))
        )
    with pytest.raises(InputError, match="no observable is called"):
        observer_of(model, s).measure(Labels([0], False, None, False, others=("spin",)))


@pytest.mark.parametrize("family", ["acsf", "deep_potential", "cluster_expansion"])
def test_fast_measurements_refuse_other_kinds(family: str) -> None:
    from test_autograd import model_of

    model = model_of(family)
    structures = labelled_structures(model.elements)
    family_ = family_of(model.spec)
    store = family_.preparation(model, structures)(structures, 1e9)
    observer = family_.observer(store, MeasurerSuite.noise, MeasurerSuite.weights)
    for method in (observer.measure, observer.loss):
        with pytest.raises(InputError, match="charge are not measured here"):
            method(Labels([0], True, None, False, others=("charge",)))
