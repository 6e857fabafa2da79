"""A training that begins where another ended.

What follows from the data (functions, scaling, wall, reference energies) is that of the new data, as in a training
from scratch. The weights are carried over so that the networks stay the same functions, and the covariance of a
Kalman filter with them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnpkit.config.schema import Config
from nnpkit.config.schema_committee import Start
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.families.registered import FAMILIES, family_of
from nnpkit.families.registered_terms import describe_terms
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.fitted_repulsion import is_fitted
from nnpkit.models.rescale import WeightChange, keep_varying, weight_change
from nnpkit.models.sum_model import SumModel
from nnpkit.training.checkpoint import (
    CHECKPOINTS,
    Checkpoint,
    first_difference,
    is_checkpoint,
    latest_checkpoint,
    model_from,
    read_checkpoint,
)
from nnpkit.training.updates import KalmanUpdate, Update
from nnpkit.workflow.assemble import LoadedData
from nnpkit.workflow.charge_stage import learn_charges
from nnpkit.workflow.new_model import (
    describe_networks,
    make_model,
    repulsion_of,
    scaled_model,
)
from nnpkit.workflow.reference_energies import set_reference_energies, settle_energies

__all__ = ["Beginning", "begin", "earlier_checkpoint", "with_model_of"]


@dataclass
class Beginning:
    """Model before the first update, and what came with it.

    Attributes
    ----------
    model : AtomicModel
    report : list of str
        What was carried over and what was not.
    checkpoint : Checkpoint or None
        Where the weights come from; None: from scratch, they could not be carried over.
    change : WeightChange or None
        What became of the weights; None: they are the same numbers.
    """

    model: AtomicModel
    report: list[str]
    checkpoint: Checkpoint | None = None
    change: WeightChange | None = None

    @property
    def warm(self) -> bool:
        """Whether the weights are those of another run."""
        return self.checkpoint is not None

    def continue_update(self, update: Update, start: Start | None) -> str | None:
        """Give a Kalman filter the covariance of the weights, if `start` says so; what to know if there is none.

        Raises
        ------
        InputError
            If the covariance is of another partition of the weights.
        """
        wanted = start is not None and start.covariance
        if self.checkpoint is None or not wanted or not isinstance(update, KalmanUpdate):
            return None
        tensors = self.checkpoint.tensors["update"]
        if "forgetting" not in tensors:
            return "no covariance belongs to these weights: the Kalman filter begins anew"
        covariance = update.optimizer.covariance
        active = covariance.active
        update.load_state_dict(tensors)
        if self.change is not None:
            covariance.transform(self.change)
        covariance.freeze(active)  # the earlier run may have frozen others
        return None


def earlier_checkpoint(start: Start, member: int | None = None) -> Checkpoint:
    """Checkpoint of the best epoch of the run to begin with: weights and the covariance that belongs to them.

    Where there is none of that epoch (epoch 0, or somebody removed it) it has the weights alone.

    Raises
    ------
    InputError
        If that run has no checkpoint.
    """
    if Path(start.run).is_file():
        return _of_file(start.run)
    run = Path(start.run) if member is None else Path(start.run) / f"member-{member:02d}"
    path = latest_checkpoint(run)
    if path is None:
        raise InputError("no run to begin with: there is no checkpoint", where=f"start.run: {run}")
    latest = read_checkpoint(path)
    best = latest.tensors["best"] or latest.tensors["model"]
    if _same(latest.tensors["model"], best):
        return latest
    epoch = (latest.state.get("progress") or {}).get("best_epoch") or 0
    folder = run / CHECKPOINTS / f"epoch-{epoch:06d}"
    if is_checkpoint(folder):
        found = read_checkpoint(folder)
        if _same(found.tensors["model"], best):
            return found
    return Checkpoint({**latest.tensors, "model": best, "update": {}}, latest.state)


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _of_file(file: str) -> Checkpoint:
    """What a model.pt knows of its training: the weights."""
    loaded = load(file)
    model, baseline = loaded.atomic_model(), loaded.metadata.get("baseline")
    model = model.correction if isinstance(model, SumModel) else model
    weights = model.state_dict()
    data = {"baseline": None if baseline is None else baseline["spec"]}
    state = {"epoch": 0, "spec": model.spec, "config": {"data": data}}
    return Checkpoint({"model": weights, "best": weights, "update": {}, "schedule": {}}, state)


def with_model_of(config: Config, checkpoint: Checkpoint) -> Config:
    """The configuration with the section `model` of the run of `checkpoint`, if it has none of its own.

    A file that does not say its settings has the defaults of its family, and is not taken for having them: the section
    does not count as given.
    """
    if "model" in config.model_fields_set:
        return config
    model = (checkpoint.state.get("config") or {}).get("model")
    named = {"kind": _kind(checkpoint.state["spec"])} if model is None else model
    if named["kind"] not in list(FAMILIES):
        return config  # `begin` says what is wrong
    found = Config.model_validate({**config.model_dump(exclude_unset=True), "model": named})
    if model is None:
        found.model_fields_set.discard("model")
    return found


def begin(
    config: Config, data: LoadedData, checkpoint: Checkpoint, base: AtomicModel | None = None
) -> Beginning:
    """Model to begin with: that of `checkpoint` where its functions suit the data, else a new one.

    Parameters
    ----------
    checkpoint : Checkpoint
        Of the earlier run, see `earlier_checkpoint`.
    base : AtomicModel, optional
        Has the functions, the scaling and the wall to use: a model of this committee whose functions suit.

    Raises
    ------
    InputError
        If the earlier potential is of other elements or labels, or of another model than `config` asks for; or if
        weights are to be frozen that cannot be carried over.
    """
    assert config.start is not None
    where = config.start.run
    _require_same_baseline(checkpoint, config)
    old = model_from(checkpoint, where)
    if old.elements != data.elements:
        raise InputError(
            f"the run to begin with knows {' '.join(old.elements)}, the data have {' '.join(data.elements)}",
            where=f"start.run: {where}", expected="the same elements", hint="begin from scratch",
        )  # fmt: skip
    if "model" not in config.model_fields_set and not _is_of(config, old):
        charged = " with charges" if isinstance(old, ChargedModel) else ""
        raise InputError(
            f"the file to begin with is a {_kind(old.spec)} model{charged} and does not say its settings",
            where=f"start.run: {where}", expected=f"a section model of kind {_kind(old.spec)}{charged}",
        )  # fmt: skip
    if "model" in config.model_fields_set:
        _require_same_model(config, checkpoint, old, describe_terms(config.model.terms, data))
        if base is None and (reason := family_of(old.spec).unsuitable(config.model, data, old)):
            if config.start.freeze:
                raise InputError(
                    f"{reason}: the weights to freeze cannot be carried over", where="start.freeze",
                    hint="begin with a model.pt and without a section model: its functions are kept",
                )  # fmt: skip
            model, report = make_model(config, data)
            return Beginning(model, [f"{reason}: trained from scratch, not from {where}", *report])
    return _carried(config, data, checkpoint, old, base)


def _kind(spec: Mapping[str, Any]) -> str:
    """The family of a model, or of the short-range part of one with charges."""
    return spec["family"] if spec["kind"] == "charged" else spec["kind"]


def _charges(model: AtomicModel) -> ChargedModel | None:
    return model if isinstance(model, ChargedModel) else None


def _is_of(config: Config, old: AtomicModel) -> bool:
    """Whether a model is of the family and the generation of charges that `config` asks for."""
    charged, wanted = _charges(old), config.model.charges
    same = (charged and charged.generation) == (wanted and wanted.generation)
    return same and _kind(old.spec) == config.model.kind


def _require_same_baseline(checkpoint: Checkpoint, config: Config) -> None:
    """Refuse to go on with weights that learnt something else."""
    before = (checkpoint.state.get("config") or {}).get("data", {}).get("baseline")
    now = None if config.data.baseline is None else config.data.baseline.model_dump(mode="json")
    if before != now:
        raise InputError(
            f"the potential to begin with corrects {before or 'nothing'}, the labels are less {now or 'nothing'}",
            where="start.run", expected="the same data.baseline",
        )  # fmt: skip


def _require_same_model(
    config: Config, checkpoint: Checkpoint, old: AtomicModel, terms: Mapping[str, Any]
) -> None:
    """Refuse settings of another model than that of the earlier run."""
    before = (checkpoint.state.get("config") or {}).get("model")
    now = config.model.model_dump(mode="json")
    difference: tuple[str, Any, Any] | None = None
    if before is not None:
        difference = first_difference(_comparable(before), _comparable(now), "model")
    elif _kind(old.spec) != config.model.kind:
        difference = ("model.kind", _kind(old.spec), config.model.kind)
    elif not _is_of(config, old):
        had, asked = (m and m.generation for m in (_charges(old), config.model.charges))
        difference = ("model.charges", had or "none", asked or "none")
    elif terms != old.spec.get("terms", {}):
        difference = ("model.terms", old.spec.get("terms") or "none", terms or "none")
    else:
        hidden = {element: old.spec["networks"][element]["hidden"] for element in old.elements}
        networks = describe_networks(config.model, hidden)
        difference = first_difference(old.spec["networks"], networks, "model.network")
    if difference is not None:
        key, then, wanted = difference
        raise InputError(
            f"the potential to begin with has {key}: {then}, not {wanted}", where=f"start.run: {config.start.run}"
            if config.start else None, expected="the same section model", hint="leave the section model out to take "
            "that of the earlier run, or begin from scratch",
        )  # fmt: skip


def _comparable(model: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that make the weights of one model those of another; the others follow the new data."""
    rest = {k: v for k, v in model.items() if k not in ("elements", "precondition", "scaling", "wall")}
    rest["network"] = {k: v for k, v in model["network"].items() if k != "initialisation"}
    rest["descriptor"] = {k: v for k, v in model["descriptor"].items() if k != "minimum_range"}
    if not any((rest.get("terms") or {}).values()):  # earlier runs do not name them
        rest.pop("terms", None)
    if rest.get("charges"):
        rest["charges"] = {k: v for k, v in rest["charges"].items() if k != "passes"}
    if isinstance(functions := rest["descriptor"].get("functions"), dict):
        rest["descriptor"]["functions"] = {"file": Path(functions["file"]).name}
    return rest


def _carried(
    config: Config, data: LoadedData, checkpoint: Checkpoint, old: AtomicModel, base: AtomicModel | None
) -> Beginning:
    """The networks of the earlier potential with scaling, wall and reference energies of the new data."""
    wall, wall_words = _wall_of(config, data, old, base)
    if base is None:
        model, _ = scaled_model(config.model, {**old.spec, "wall": wall}, data)
    else:
        model = copy.deepcopy(base)
    set_reference_energies(model, dict(zip(old.elements, old.reference_energies, strict=True)))
    report, change = [f"begins with the potential of {config.start.run if config.start else ''}"], None
    if isinstance(old, ChargedModel) and isinstance(model, ChargedModel):
        report.append("scaling of the features is that of that potential")
        carried = {name: value for name, value in old.state_dict().items() if not name.startswith("terms.")}
        model.load_state_dict({**model.state_dict(), **carried})
        report += learn_charges(config, model, data, go_on=True)
    elif family_of(old.spec).trained_descriptor:
        report.append("statistics of the environments are those of that potential")
        model.load_state_dict(old.state_dict())
    else:
        model.load_state_dict({**model.state_dict(), **dict(old.named_parameters())})
        keep_varying(old.scaling, model.scaling)
        change = weight_change(model, old.scaling, model.scaling)
        if change is not None:
            _change_weights(model, change)
            report.append("scaling follows the new data; first layers are changed to keep the same functions")
    report.append(wall_words)
    report += settle_energies(model, config.data.reference_energies, data.train)
    return Beginning(model, report, checkpoint, change)


def _wall_of(
    config: Config, data: LoadedData, old: AtomicModel, base: AtomicModel | None
) -> tuple[dict[str, Any], str]:
    """Repulsion of the new data, or the fitted one of the earlier potential, whose networks are the rest of it."""
    if is_fitted(old.spec["wall"]):
        if config.model.wall not in ("auto", "fitted"):
            raise InputError(
                "the networks of the potential to begin with are the difference to a fitted repulsion, which has to "
                "stay", where="model.wall", expected="auto or fitted", hint="train from scratch for another repulsion",
            )  # fmt: skip
        return old.spec["wall"], "short-range repulsion is that of that potential"
    if base is not None:
        return base.spec["wall"], "short-range repulsion is that of the first potential"
    if config.model.wall == "fitted":
        raise InputError(
            "the potential to begin with learnt without a fitted repulsion", where="model.wall",
            expected="auto, on, off or distances", hint="train from scratch for a potential with one",
        )  # fmt: skip
    found = repulsion_of(config.model, data, fit=False)
    return found.wall, found.words


@torch.no_grad()
def _change_weights(model: AtomicModel, change: WeightChange) -> None:
    parameters: Sequence[Tensor] = list(model.parameters())
    vector = torch.nn.utils.parameters_to_vector(parameters)
    torch.nn.utils.vector_to_parameters(change(vector[None])[0], parameters)
