"""A driver for i-PI, with which it runs path integrals and whatever else it knows.

i-PI's own client loads this file and speaks its protocol::

    i-pi-py_driver -u -a NAME -m custom -P PATH_OF_THIS_FILE -o model=model.pt,template=start.xyz

Of a committee the energies, forces and virials of the members travel along as JSON, which ``<ffcommittee>`` with
``<parse_json> True`` turns into uncertainties of the run, and of each bead.

Reference: i-PI's documentation, "Distributed execution" and "ffcommittee" (https://docs.ipi-code.org).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from ipi.pes.dummy import Dummy_driver
from ipi.utils.units import unit_to_internal, unit_to_user

from nnpkit.data.formats.reading import read
from nnpkit.deploy.load import load
from nnpkit.engines.evaluation import BatchEvaluator

__all__ = ["NnpkitDriver"]

__DRIVER_NAME__ = "nnpkit"
__DRIVER_CLASS__ = "NnpkitDriver"


class NnpkitDriver(Dummy_driver):
    """Energies, forces and virials in i-PI's units (hartree, bohr); cells come with their vectors as columns.

    Parameters
    ----------
    model : path
        Anything that `nnpkit.load` takes.
    template : path
        A structure with the elements in the order of the run, and its periodic directions.
    precision : {'float64', 'mixed', 'float32'}
        Of the kernel.

    Raises
    ------
    InputError
        If one of the files cannot be read, or the model cannot be evaluated.
    """

    def __init__(
        self, model: str, template: str, precision: str = "float64", *args: Any, **kwargs: Any
    ) -> None:
        self.evaluator = BatchEvaluator(load(model), precision=precision)
        self.structure = read(template, frames=-1, labels_matter=False)[0]
        super().__init__(*args, **kwargs)

    def compute_structure(
        self, cell: np.ndarray, pos: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray, str]:
        """Energy (hartree), forces (N, 3), virial (3, 3; ``-dE/dstrain``) and the JSON of a committee."""
        structure = self.structure.replace(
            positions=np.array(unit_to_user("length", "angstrom", pos)).reshape(-1, 3),
            cell=np.array(unit_to_user("length", "angstrom", cell)).reshape(3, 3).T,
        )
        found = self.evaluator.predict([structure])
        members = self.evaluator.members(structure)
        extras: dict[str, Any] = {}
        if members is not None:
            extras = {
                "committee_pot": _energy(members.energy.numpy()).tolist(),
                "committee_force": _force(members.forces.numpy()).tolist(),
                "committee_virial": _energy(members.virial.numpy()).tolist(),
            }
        return (
            float(_energy(found.energy.numpy()[0])),
            _force(found.forces.numpy()),
            _energy(found.virial.numpy()[0]).T.copy(),
            json.dumps(extras) if extras else "",
        )


def _energy(value: np.ndarray) -> np.ndarray:
    return np.asarray(unit_to_internal("energy", "electronvolt", value), dtype=np.float64)


def _force(value: np.ndarray) -> np.ndarray:
    return np.asarray(unit_to_internal("force", "ev/ang", value), dtype=np.float64)
