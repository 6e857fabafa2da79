"""The Python interface: `nnpkit.load`, `nnpkit.read` and `nnpkit.train`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnpkit.config.config_file import config_from_mapping, load_config
from nnpkit.config.schema import Config
from nnpkit.data.formats.reading import read
from nnpkit.deploy.load import LoadedModel
from nnpkit.deploy.load import load as load_model
from nnpkit.errors import InputError
from nnpkit.md.calculator import NnpkitCalculator
from nnpkit.workflow.training_run import run_training

__all__ = ["Model", "load", "read", "train"]


class Model(LoadedModel):
    """A loaded model: `predict` for structures, `calculator` for ASE, `save` to write it as model.pt."""

    def calculator(self, atoms_per_chunk: int = 128, **options: Any) -> NnpkitCalculator:
        """ASE calculator with energy, forces and stress of this model; `options` are those of `NnpkitCalculator`."""
        return NnpkitCalculator(self, atoms_per_chunk, **options)


def load(
    path: str | Path,
    units: str | None = None,
    cflength: float | None = None,
    cfenergy: float | None = None,
) -> Model:
    """Load a model and check it.

    Parameters
    ----------
    path : path
        A model.pt, the folder of a run or of a checkpoint, or a potential of RuNNer or n2p2.
    units : {"angstrom-ev", "bohr-hartree"}, optional
        Units of a RuNNer potential; without it a warning says what was inferred and from what.
    cflength, cfenergy : float, optional
        The same in the numbers of LAMMPS' ``pair_style hdnnp`` for ``units metal``.

    Raises
    ------
    InputError
        If there is no model, or it is truncated, altered or of another format version.

    Examples
    --------
    >>> model = nnpkit.load("run")                        # doctest: +SKIP
    >>> model.predict(atoms).energy                       # doctest: +SKIP
    >>> atoms.calc = model.calculator()                   # doctest: +SKIP
    """
    loaded = load_model(path, units, cflength, cfenergy)
    for note in loaded.notes:
        warnings.warn(note, stacklevel=2)
    return Model(loaded.module, loaded.metadata, loaded.where, loaded.notes, content=loaded.content)


def train(
    config: str | Path | Mapping[str, Any] | Config,
    overrides: Iterable[str] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a potential: the command ``nnpkit train``.

    Parameters
    ----------
    config : path, mapping or Config
        A YAML file, or the same content as nested dictionaries.
    overrides : iterable of str
        Settings to change, such as ``training.epochs=50``; for a YAML file.
    resume : bool
        Continue from the last checkpoint of the run folder, if it has one.
    overwrite : bool
        Replace an earlier run in the run folder.

    Returns
    -------
    dict
        The content of the run's ``summary.json``.

    Raises
    ------
    InputError
        For settings or data that cannot be used; nothing has been written then.
    """
    overrides = list(overrides)
    if isinstance(config, str | Path):
        config = load_config(config, overrides)
    elif overrides:
        raise InputError("overrides are for a YAML file", expected="the mapping to hold all settings")
    elif not isinstance(config, Config):
        config = config_from_mapping(config)
    return run_training(config, resume=resume, overwrite=overwrite)
