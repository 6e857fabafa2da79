"""Structures that tests make themselves, and where the real data are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnpkit.data.structure import LABELS, Structure


def real_data(*parts: str) -> Path:
    """A file of the real data; skips the test where there are none."""
    root = os.environ.get("NNPKIT_DATA")
    if not root:
        pytest.skip("NNPKIT_DATA is not set: no real data here")
    return Path(root, *parts)


def water(energy: float = -14.2, name: str = "water") -> Structure:
    """One molecule in a box, with made-up labels."""
    return Structure(
        symbols=["O", "H", "H"],
        positions=np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]),
        cell=np.diag([5.0, 6.0, 7.0]),
        pbc=np.full(3, True),
        energy=energy,
        forces=np.array([[0.1, -0.2, 0.0], [0.2, 0.1, 0.3], [-0.3, 0.1, -0.3]]),
        stress=np.array([[0.01, 0.002, 0.0], [0.002, -0.02, 0.001], [0.0, 0.001, 0.03]]),
        name=name,
    )


def emt_copper(n: int = 30, strain: float = 0.02, rattle: float = 0.0, seed: int = 0) -> list[Structure]:
    """Copper with energy, forces and stress of ASE's effective medium theory, each cell strained at random."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    rng = np.random.default_rng(seed)
    structures = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True).repeat((2, 2, 2))
        deformation = rng.uniform(-strain, strain, (3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (deformation + deformation.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(scale=rattle, size=(len(atoms), 3)) if rattle else 0.0
        atoms.calc = EMT()
        for quantity in ("energy", "forces", "stress"):
            atoms.calc.get_property(quantity, atoms)
        structures.append(Structure.from_atoms(atoms, f"copper#{k}").replace(info={}, arrays={}))
    return structures


def assert_same(a: Structure, b: Structure, relative: float = 0.0) -> None:
    """Equal up to the relative tolerance, name aside; exactly equal by default."""
    assert a.symbols == b.symbols
    assert a.pbc.tolist() == b.pbc.tolist()
    for label in ("positions", "cell", *LABELS, "total_charge", "multiplicity"):
        x, y = getattr(a, label), getattr(b, label)
        assert (x is None) == (y is None), label
        if x is not None:
            scale = float(np.abs(np.asarray(x)).max(initial=0.0))
            np.testing.assert_allclose(x, y, rtol=0.0, atol=relative * scale, err_msg=label)
    for extras, others in ((a.info, b.info), (a.arrays, b.arrays)):
        assert list(extras) == list(others)
        for key in extras:
            np.testing.assert_array_equal(extras[key], others[key], err_msg=key)


NUMBERS = st.floats(-1e4, 1e4, allow_subnormal=False)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
INFO = st.dictionaries(
    st.from_regex(r"x_[a-zA-Z0-9_]{1,8}", fullmatch=True),
    st.one_of(
        st.booleans(), st.integers(-(2**40), 2**40), NUMBERS, TEXTS, arrays(np.float64, (4,), elements=NUMBERS),
        arrays(np.int64, (2, 3), elements=st.integers(-9, 9)), st.lists(TEXTS, min_size=1, max_size=3),
    ),
    max_size=3,
)  # fmt: skip


@st.composite
def structures(
    draw: st.DrawFn, with_extras: bool = True, partly_periodic: bool = True, symbols: list[str] | None = None
) -> Structure:
    """Any structure that the readers accept."""
    symbols = symbols or draw(st.lists(st.sampled_from(["H", "C", "O", "Cu", "Au"]), min_size=1, max_size=5))
    n = len(symbols)

    def optional(strategy: st.SearchStrategy) -> object:
        return draw(st.none() | strategy)

    diagonal = draw(arrays(np.float64, (3,), elements=st.floats(1.0, 50.0)))
    lower = np.tril(draw(arrays(np.float64, (3, 3), elements=st.floats(-3.0, 3.0))), k=-1)
    pbc = draw(st.lists(st.booleans(), min_size=3, max_size=3) if partly_periodic else st.just([True] * 3))
    has_cell = any(pbc) or draw(st.booleans())
    matrix = optional(arrays(np.float64, (3, 3), elements=NUMBERS)) if has_cell else None
    return Structure(
        symbols=list(symbols),
        positions=draw(arrays(np.float64, (n, 3), elements=NUMBERS)),
        cell=np.diag(diagonal) + lower if has_cell else np.zeros((3, 3)),
        pbc=np.array(pbc),
        energy=optional(NUMBERS),
        forces=optional(arrays(np.float64, (n, 3), elements=NUMBERS)),
        stress=matrix,
        charges=optional(arrays(np.float64, (n,), elements=NUMBERS)),
        dipole=optional(arrays(np.float64, (3,), elements=NUMBERS)),
        total_charge=optional(st.floats(-4.0, 4.0)),
        multiplicity=optional(st.integers(1, 9)),
        info=draw(INFO) if with_extras else {},
        arrays={"magmom_x": draw(arrays(np.float64, (n, 2), elements=NUMBERS))}
        if with_extras and draw(st.booleans())
        else {},
        name="made",
    )
