"""Any kind of MODEL that a command is given, ready to predict: model.pt, run, checkpoint, RuNNer, DeePMD, NEP."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.deploy.archive import KINDS, check_numbers, read_metadata, scripted_module
from nnpkit.deploy.imports.outside import read_outside
from nnpkit.deploy.metadata import check_metadata, model_metadata
from nnpkit.deploy.outside_baselines import outside_baseline
from nnpkit.deploy.targets.charged_file import check_charged
from nnpkit.deploy.targets.committee_file import Disagreement, apart, disagreement
from nnpkit.deploy.targets.torchscript import export_model, unoptimized
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model
from nnpkit.files import atomic_write
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_potential import charges_and_dipole
from nnpkit.models.committee_potential import ChargedCommittee, CommitteePotential, mean_prediction
from nnpkit.models.potential import Potential
from nnpkit.models.stages import model_features
from nnpkit.models.sum_model import SumModel, has_charges
from nnpkit.models.sum_potential import potential_of
from nnpkit.seal import check_seal
from nnpkit.threads import torch_threads
from nnpkit.training.checkpoint import latest_checkpoint, model_from, read_checkpoint
from nnpkit.units import stress_from_virial, virial_from_stress

if TYPE_CHECKING:
    from ase import Atoms
from nnpkit.families.registered import family_of

__all__ = ["LoadedModel", "Result", "load", "load_checkpoint", "whole_model"]

# Metadata that the model itself does not hold.
_PROVENANCE = ("data_sha256", "min_distance", "training", "source", "tabulation", "baseline")


@dataclass
class Result:
    """What a model says about one structure."""

    energy: float  # eV
    energies: np.ndarray  # (N,) eV, of each atom
    forces: np.ndarray  # (N, 3) eV/Å
    virial: np.ndarray  # (3, 3) eV, -dE/dstrain
    stress: np.ndarray | None  # (3, 3) eV/Å³ in ASE's sign; None unless periodic in three dimensions
    disagreement: Disagreement | None = None  # of a committee, if asked for
    charges: np.ndarray | None = None  # (N,) e, where each atom has one; of a committee the mean
    dipole: np.ndarray | None = None  # (3,) e Å, about the origin, of these charges; None if periodic


@dataclass(repr=False)
class LoadedModel:
    """A model that has passed its checks.

    Copies and pickles hold the bytes of the model.pt (or the weights, of a model that was none), so they are the
    same model in another process or on another machine, whatever becomes of the file.

    Parameters
    ----------
    module : nn.Module
        With the arguments of `AtomicModel.forward`: the scripted module of a model.pt or an `AtomicModel`; or the
        members of a committee with charges.
    metadata : dict
        As described in `nnpkit.deploy.metadata`.
    where : str
        File or folder it came from.
    notes : list of str
        What the user should know about how it was read, one line each.
    """

    module: nn.Module
    metadata: dict[str, Any]
    where: str
    notes: list[str] = field(default_factory=list)
    _baseline: Any = field(default=None, repr=False, compare=False)
    content: bytes | None = field(default=None, repr=False, compare=False)  # of the model.pt it came from

    def __getstate__(self) -> dict[str, Any]:
        """The model without its scripted module, which the bytes of its file stand for."""
        state = {**self.__dict__, "_baseline": None}
        if self.content is not None and isinstance(self.module, torch.jit.ScriptModule):
            state["module"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the module again from the bytes."""
        self.__dict__.update(state)
        if self.content is not None and self.module is None:
            self.module = scripted_module(self.content, self.where)

    def __repr__(self) -> str:
        """One line: what it is, of which elements, how far it sees, and where it came from."""
        kind = "committee" if self.n_members > 1 else self.metadata.get("kind", "model")
        return f"<{type(self).__name__} {kind} of {' '.join(self.elements)}, cutoff {self.cutoff:g} Å, {self.where}>"

    @property
    def elements(self) -> list[str]:
        """Elements in the order of the type indices."""
        return list(self.metadata["elements"])

    @property
    def cutoff(self) -> float:
        """Radius (Å) beyond which no neighbour matters."""
        return float(self.metadata["cutoff"])

    @property
    def n_members(self) -> int:
        """Members of a committee; 1 for a single potential."""
        return len(self.metadata.get("members", [None]))

    @overload
    def predict(
        self,
        structures: Atoms | Structure,
        atoms_per_chunk: int = ...,
        members: bool = ...,
        potential: Potential | None = ...,
    ) -> Result: ...

    @overload
    def predict(
        self,
        structures: Iterable[Atoms | Structure],
        atoms_per_chunk: int = ...,
        members: bool = ...,
        potential: Potential | None = ...,
    ) -> list[Result]: ...

    def predict(
        self,
        structures: Atoms | Structure | Iterable[Atoms | Structure],
        atoms_per_chunk: int = 128,
        members: bool = True,
        potential: Potential | None = None,
    ) -> Result | list[Result]:
        """Energies, forces and stress of one structure (a `Result`) or of several (a list).

        Parameters
        ----------
        structures : Structure, ase.Atoms or iterable of them
            Labels they carry are ignored.
        atoms_per_chunk : int
            Atoms evaluated at a time; bounds the memory.
        members : bool
            Also evaluate every member of a committee, for `Result.disagreement`.
        potential : Potential, optional
            What evaluates the graphs: by default the module, or its kernel (`nnpkit.deploy.fused`).

        Raises
        ------
        InputError
            If an element is unknown to the model, a structure makes no sense (atoms at the same place), or it is the
            name of a file.
        """
        if isinstance(structures, str | Path):
            raise InputError(
                "predict takes structures, not files", where=str(structures),
                hint="read them first: model.predict(nnpkit.read(...))",
            )  # fmt: skip
        if not hasattr(structures, "symbols"):
            return [self.predict(s, atoms_per_chunk, members, potential) for s in structures]
        structure = structures if isinstance(structures, Structure) else Structure.without_labels(structures)
        # What PyTorch does around a kernel is too little for more than one thread.
        with torch_threads(1 if potential is not None else None), unoptimized():
            graph = build_graph(structure, self.elements, self.cutoff)
            potential = potential or potential_of(self.module)
            spread, factor = None, self.metadata.get("spread_factor", 1.0)
            if isinstance(potential, CommitteePotential):
                each = potential.each(graph, atoms_per_chunk)
                prediction, spread = mean_prediction(each), apart(each, factor) if members else None
            else:
                prediction = potential.predict(graph, atoms_per_chunk)
                if members and self.n_members > 1:
                    spread = disagreement(potential, self.n_members, graph, atoms_per_chunk, factor)
        virial = prediction.virial[0].numpy()
        result = Result(
            energy=float(prediction.energy[0]),
            energies=prediction.atomic_energy.numpy(),
            forces=prediction.forces.numpy(),
            virial=virial,
            stress=stress_from_virial(virial, structure.volume) if structure.pbc.all() else None,
            disagreement=spread,
        )
        result.charges, result.dipole = charges_and_dipole(prediction, structure)
        return result if self.missing_baseline is None else self._with_baseline(structure, result)

    def features(self, structure: Atoms | Structure) -> np.ndarray:
        """What the descriptor says of every atom, before any scaling: (N, D).

        The meaning of a column depends on the element of the atom; a column that its element does not have is 0.
        ``metadata["feature_ranges"]`` has the ranges in the training data, by element.

        Raises
        ------
        InputError
            As `predict`.
        """
        own = structure if isinstance(structure, Structure) else Structure.without_labels(structure)
        with torch.no_grad():
            values = model_features(self.module, build_graph(own, self.elements, self.cutoff))
        return np.asarray(values.numpy())

    @property
    def missing_baseline(self) -> dict[str, Any] | None:
        """What this potential is a correction to and the file does not hold: its ``name`` and ``spec``.

        `predict` and the ASE calculator add it; LAMMPS has to be told to.
        """
        baseline = self.metadata.get("baseline")
        return None if baseline is None or baseline["included"] else dict(baseline)

    def _with_baseline(self, structure: Structure, result: Result) -> Result:
        """The result of the correction with that of its baseline; atoms share the energy of the latter evenly."""
        if self._baseline is None:
            self._baseline = outside_baseline(self.metadata["baseline"]["spec"])
        added = self._baseline.evaluate(structure)
        stress, virial = None, np.full((3, 3), np.nan)
        if result.stress is not None and added.stress is not None:
            stress = result.stress + added.stress
            virial = virial_from_stress(stress, structure.volume)
        energies = result.energies + added.energy / max(1, structure.n_atoms)
        return replace(
            result, energy=result.energy + added.energy, energies=energies, forces=result.forces + added.forces,
            virial=virial, stress=stress,
        )  # fmt: skip

    def atomic_model(self) -> AtomicModel:
        """A copy of the model that can be trained or written in another format.

        Raises
        ------
        InputError
            If it is a committee.
        """
        if self.n_members > 1:
            raise InputError(
                "this is a committee", where=self.where, expected="a single potential",
                hint="give one of its members",
            )  # fmt: skip
        if isinstance(self.module, AtomicModel):
            return deepcopy(self.module).requires_grad_(True)
        return _model_of_state(self.metadata["spec"], _of_model(self.module.state_dict()), self.where)

    def tabulate(self, tolerance: float) -> None:
        """Have the fast kernels tabulate the embedding networks to another `tolerance`, also once it is saved.

        Raises
        ------
        InputError
            If there are no such networks, or the tables cannot keep the tolerance; see
            `nnpkit.families.deep_potential.tabulation.tabulation`.
        """
        model = self.atomic_model()
        family, shortest = family_of(model.spec), self.metadata.get("min_distance")
        grids = family.tabulation(model, shortest, tolerance, insist=True)
        if grids is None:
            raise InputError(
                "there is nothing to tabulate", where=self.where, expected="a Deep Potential",
                hint="symmetry functions have no embedding networks",
            )  # fmt: skip
        self.module = model.requires_grad_(False)
        self.metadata = {**self.metadata, "tabulation": grids}

    def save(self, path: str | Path, frame: Structure | None = None) -> None:
        """Write the model as a model.pt, atomically: the very file it came from, or exported.

        `frame` is for the self-test; see `nnpkit.deploy.targets.torchscript.export_model`.
        """
        if not isinstance(self.module, AtomicModel) and self.content is not None:
            with atomic_write(path, "wb") as stream:
                stream.write(self.content)
        else:
            extra = {key: self.metadata[key] for key in _PROVENANCE if key in self.metadata}
            export_model(self.atomic_model(), path, extra, frame)


def load(
    path: str | Path,
    units: str | None = None,
    cflength: float | None = None,
    cfenergy: float | None = None,
) -> LoadedModel:
    """Load a model and check it.

    Parameters
    ----------
    path : path
        A model.pt, a run folder, a checkpoint folder, a folder of RuNNer or n2p2 with ``input.nn``, a serialised
        model of DeePMD-kit (``model.yaml``), or a ``nep.txt`` of GPUMD.
    units, cflength, cfenergy : optional
        Units of a RuNNer potential; see `nnpkit.deploy.imports.runner_units.given_units`.

    Raises
    ------
    InputError
        If there is no model, or it is truncated, altered, of another format version, or fails its self-test.
    """
    path = Path(path)
    outside = read_outside(path, units, cflength, cfenergy)
    if outside is not None:
        metadata = model_metadata(outside.model, {"source": outside.source})
        return LoadedModel(outside.model.requires_grad_(False), metadata, str(path), outside.notes)
    if path.is_file():
        return _load_archive(path)
    if (path / "model.pt").is_file():
        return _load_archive(path / "model.pt")
    if (path / "state.json").is_file():
        return load_checkpoint(path)
    latest = latest_checkpoint(path)
    if latest is not None:
        return load_checkpoint(latest, best=True)
    found = "no model in this folder" if path.is_dir() else "there is no such file or folder"
    raise InputError(found, where=str(path), expected=KINDS)


def _load_archive(path: Path) -> LoadedModel:
    """A model.pt whose bytes, metadata and numbers are what was exported."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None
    check_seal(content, str(path))  # before a library opens it
    metadata = check_metadata(read_metadata(content, str(path)), str(path))
    module = scripted_module(content, str(path))
    if has_charges(metadata["spec"]):
        charged = _charged(metadata, dict(module.state_dict()), str(path)).requires_grad_(False)
        return LoadedModel(charged, metadata, str(path), _notes_of(metadata), content=content)
    check_numbers(module, str(path))
    return LoadedModel(module, metadata, str(path), _notes_of(metadata), content=content)


def _charged(metadata: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> nn.Module:
    """What has charges, a potential or the members of a committee, whose self-tests are passed."""
    if "members" not in metadata:
        model = _model_of_state(metadata["spec"], _of_model(state), where)
        check_charged(model, state, where)
        return model
    members = []
    for m, described in enumerate(metadata["members"]):
        prefix = f"member_{m}."
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        members.append(_charged(described, own, f"{where}, member {m + 1}"))
    return ChargedCommittee(
        members, [m for m, own in enumerate(metadata["members"]) if own.get("describes", True)]
    )


def _notes_of(metadata: Mapping[str, Any]) -> list[str]:
    """What everybody who uses a model should know of its training."""
    members = metadata.get("members") or [metadata]
    # Only what every loader needs has been checked; this is words for a person and must not fail.
    trainings = [member.get("training") if isinstance(member, dict) else None for member in members]
    silent = [n for n, own in enumerate(trainings) if isinstance(own, dict) and own.get("silenced")]
    if not silent:
        return []
    which = (
        "this potential has"
        if len(members) == 1
        else f"member {', '.join(map(str, silent))} of the committee has"
    )
    return [f"{which} learnt nothing: its networks say zero, and its energies are those of the elements"]


def load_checkpoint(folder: str | Path, *, best: bool = False) -> LoadedModel:
    """Model of a checkpoint folder: as it was then or, with `best`, as it was at the best epoch until then.

    Raises
    ------
    InputError
        If a file is missing or damaged, or its numbers do not fit its model.
    """
    folder = Path(folder)
    checkpoint = read_checkpoint(folder)
    run = folder.resolve().parent.parent
    model = model_from(checkpoint, str(folder), best=best)
    spec = (checkpoint.state.get("config") or {}).get("data", {}).get("baseline")
    model, baseline = whole_model(model, spec, run / "baseline.pt")
    metadata = model_metadata(model, {**_of_data(run), **baseline})
    return LoadedModel(model.requires_grad_(False), metadata, str(folder))


def whole_model(
    model: AtomicModel, spec: Mapping[str, Any] | None, file: Path
) -> tuple[AtomicModel, dict[str, Any]]:
    """A correction with the baseline that `spec` describes, and what its metadata say of that.

    A potential, whose `file` is that of the run, becomes part of the model; of other baselines there is a record.

    Raises
    ------
    InputError
        If the potential cannot be loaded or lacks an element.
    """
    if spec is None:
        return model, {}
    if spec["kind"] == "model":
        baseline = load(file if file.is_file() else spec["file"])
        name = f"potential of {' '.join(baseline.elements)}"
        model = SumModel(model, baseline.atomic_model())
    else:
        name = outside_baseline(spec).name
    return model, {"baseline": {"name": name, "spec": dict(spec), "included": spec["kind"] == "model"}}


def _of_data(run: Path) -> dict[str, Any]:
    """What the ``data.json`` of a run says that belongs into the metadata of its models."""
    try:
        report = json.loads((run / "data.json").read_text(encoding="utf-8"))
        shortest = report["statistics"]["train"]["min_distance"]
        return {
            "data_sha256": report["sha256"]["train"],
            "min_distance": {pair: entry["distance"] for pair, entry in shortest.items()},
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # a checkpoint without its run is still a model


def _of_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the model among those of a file."""
    return {name.removeprefix("model."): v for name, v in state.items() if name.startswith("model.")}


def _model_of_state(spec: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> AtomicModel:
    """Model described by `spec` with the numbers of `state`, which may hold more than its parameters."""
    try:
        model = build_model(spec)
        model.load_state_dict({name: state[name] for name in model.state_dict()})
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the numbers do not fit the model's description ({reason})", where=where) from None
    return model
