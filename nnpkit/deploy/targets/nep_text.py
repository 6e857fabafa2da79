"""The text of a ``nep.txt``; see `nnpkit.deploy.imports.nep_file` for what it says."""

from __future__ import annotations

import numpy as np

from nnpkit.deploy.imports.nep_file import MANY_BODY, MAX_FLEXIBLE, NepFile, NepLimits
from nnpkit.errors import InputError
from nnpkit.models.tabulated_zbl import UNIVERSAL_SCREENING

__all__ = ["nep_text"]


def nep_text(nep: NepFile, where: str) -> str:
    """The file, every number with all its digits; `where` is for messages.

    Raises
    ------
    InputError
        If GPUMD has no room for the potential.
    """
    _check(nep, where)
    repulsion, table = _repulsion(nep, where)
    tail = "_zbl" if nep.zbl is not None else ""
    same = bool(np.all(nep.cutoffs == nep.cutoffs[0]))
    cutoffs = nep.cutoffs[:1] if same else nep.cutoffs
    switches = [_switch(name) if name in nep.many_body else 0 for name in MANY_BODY]
    while len(switches) > 2 and not switches[-1]:  # those that programs of before 2025 do not know
        switches.pop()
    lines = [
        f"nep{nep.version}{tail} {len(nep.elements)} {' '.join(nep.elements)}",
        *repulsion,
        f"cutoff {' '.join(_short(c) for c in cutoffs.ravel())} {nep.neighbors[0]} {nep.neighbors[1]}",
        f"n_max {nep.n_max[0]} {nep.n_max[1]}",
        f"basis_size {nep.basis_size[0]} {nep.basis_size[1]}",
        f"l_max {nep.l_max} {' '.join(map(str, switches))}",
        f"ANN {nep.neurons} 0",
    ]
    networks = [nep.w0, nep.b0, nep.w1] if nep.version == 4 else [nep.w0[:1], nep.b0[:1], nep.w1[:1]]
    numbers = [np.concatenate([a.reshape(len(a), -1) for a in networks], axis=1).ravel(), np.array([nep.b1])]
    numbers += [c.transpose(2, 3, 0, 1).ravel() for c in (nep.c_radial, nep.c_angular)]
    numbers += [nep.scaler, table]
    lines += [f"{value:23.16e}" for value in np.concatenate(numbers)]
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    return repr(float(value))


def _switch(name: str) -> int:
    """What GPUMD writes for a term that is on."""
    return 2 if name == "222" else 1


def _check(nep: NepFile, where: str) -> None:
    """InputError for anything that GPUMD has no room for."""
    limits = NepLimits()
    angular = nep.n_features - nep.n_max[0] - 1
    for value, most, what in (
        (len(nep.elements), limits.elements, "elements"), (nep.l_max, limits.l_max, "for l_max"),
        (nep.n_max[1] + 1, limits.n_max_angular + 1, "angular channels"),
        (max(nep.basis_size) + 1, limits.basis_size + 1, "functions in the radial basis"),
        (nep.neurons, limits.neurons, "neurons"), (nep.n_features, limits.features, "features"),
        (angular, limits.angular_features, "angular features"),
    ):  # fmt: skip
        if value > most:
            raise InputError(
                f"{value} {what} do not fit into a nep.txt", where=where, expected=f"at most {most}"
            )
    if float(nep.cutoffs.max()) > limits.cutoff or np.any(nep.cutoffs[:, 1] > nep.cutoffs[:, 0]):
        raise InputError(
            "the angular cutoff is longer than the radial one, which no nep.txt can say", where=where
        )


def _repulsion(nep: NepFile, where: str) -> tuple[list[str], np.ndarray]:
    """The line ``zbl`` and the numbers at the end of the file."""
    if nep.zbl is None:
        return [], np.zeros(0)
    if float(nep.zbl[..., 1].max()) > float(nep.cutoffs[:, 1].max()):
        raise InputError("the repulsion reaches beyond the angular cutoff", where=where)
    first = nep.zbl[0, 0]
    if np.all(nep.zbl == first) and np.array_equal(first[2:], UNIVERSAL_SCREENING) and first[1] > 0.0:
        return [f"zbl {_short(first[0])} {_short(first[1])}"], np.zeros(0)
    if len(nep.elements) > MAX_FLEXIBLE:
        raise InputError(
            f"a repulsion of each pair of {len(nep.elements)} elements", where=where,
            expected=f"at most {MAX_FLEXIBLE} elements, or the same distances for all pairs",
        )  # fmt: skip
    return ["zbl 0 0"], nep.zbl[np.triu_indices(len(nep.elements))].ravel()
