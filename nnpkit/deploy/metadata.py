"""What a model file says about itself: written at export, checked at every load."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import torch

from nnpkit._version import __version__
from nnpkit.errors import InputError
from nnpkit.families.factory import count_parameters
from nnpkit.families.registered import family_of
from nnpkit.models.atomic_model import AtomicModel

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "METADATA_FILE",
    "RANGE_MARGIN",
    "check_metadata",
    "committee_metadata",
    "common_ranges",
    "model_metadata",
]

FORMAT = "nnpkit-model"
FORMAT_VERSION = 1
METADATA_FILE = "metadata.json"
"""Name of the metadata among the extra files of the TorchScript archive."""
RANGE_MARGIN = 0.05
"""Of the width of a feature's range, by which it is moved outwards at both ends.

Data are a sample: the next atom of the same kind lies a little outside of the range of some feature. And a crystal at
rest is the end of the range of every feature that its symmetry makes zero or extreme, which displaced atoms come near
(to 0.2 % of the width in 1500 surroundings of displaced copper) and never reach.
"""
_UNITS = {"length": "angstrom", "energy": "eV"}
_SIGN = "virial = -dE/dstrain"


def model_metadata(model: AtomicModel, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """JSON-able description of `model`; keys of `extra` (``data_sha256``, ``min_distance``, ...) are added.

    ``feature_ranges`` holds the smallest and largest raw feature of each element in the training data, in the
    order of ``features()``, moved outwards by `RANGE_MARGIN`; None if they are not known. Those of imported potentials
    (a ``source`` among `extra`) stay as their files have them, so that counts agree with those of other programs.
    ``tabulation`` tells the fast kernels where to tabulate embedding networks
    (`nnpkit.families.deep_potential.tabulation`), None for models without them; unless it is among `extra`, it is that
    of the default tolerance.
    """
    n_features = dict(zip(model.elements, model.descriptor.n_features, strict=True))
    minimum, maximum = model.scaling.minimum, model.scaling.maximum
    margin = 0.0 if extra and "source" in extra else RANGE_MARGIN
    lowest, highest = (
        end + margin * (end - other) for end, other in ((minimum, maximum), (maximum, minimum))
    )
    ranges = {
        element: {"min": lowest[t, :n].tolist(), "max": highest[t, :n].tolist()}
        for t, (element, n) in enumerate(n_features.items())
    }
    extra = dict(extra or {})
    if "tabulation" not in extra:
        extra["tabulation"] = family_of(model.spec).tabulation(model, extra.get("min_distance"))
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": model.spec["kind"],
        "elements": model.elements,
        "cutoff": model.cutoff,
        "units": _UNITS,
        "sign": _SIGN,
        "dtype": "float64",
        "n_parameters": count_parameters(model),
        **({"fields": model.fields} if model.fields else {}),
        "versions": {"nnpkit": __version__, "torch": str(torch.__version__)},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data_sha256": None,
        "min_distance": None,
        **extra,
        "feature_ranges": ranges if bool((maximum > minimum).any()) else None,
        "spec": model.spec,
    }


def committee_metadata(members: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[list[int]]]:
    """JSON-able description of a committee, with that of each member under ``members``.

    Members with the same features count once: their common range is what all of them have seen. Those drawn around
    the first have its features. Different features stand side by side, in the order of the groups in the second
    value. A member without ranges leaves the committee without.

    Returns
    -------
    tuple
        The metadata, and groups of members with the same features: the first members of each, side by side, give
        those of the committee.
    """
    groups: list[list[int]] = []
    for index, member in enumerate(members):
        drawn = groups[:1] if member.get("drawn") else []
        same = drawn or [group for group in groups if _features(members[group[0]]) == _features(member)]
        if same:
            same[0].append(index)
        else:
            groups.append([index])
    first = members[0]
    together = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": "committee",
        "elements": first["elements"],
        "cutoff": max(member["cutoff"] for member in members),
        "units": _UNITS,
        "sign": _SIGN,
        "dtype": "float64",
        "n_parameters": sum(member["n_parameters"] for member in members),
        "versions": {"nnpkit": __version__, "torch": str(torch.__version__)},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data_sha256": first["data_sha256"] if _agree(members, "data_sha256") else None,
        "min_distance": first["min_distance"] if _agree(members, "min_distance") else None,
        "baseline": _common_baseline(members),
        "feature_ranges": common_ranges([[members[i] for i in group] for group in groups]),
        "spec": {"kind": "committee"},
        "members": [dict(member) for member in members],
    }
    return together, groups


def _agree(members: Sequence[Mapping[str, Any]], key: str) -> bool:
    return all(member[key] == members[0][key] for member in members)


def _common_baseline(members: Sequence[Mapping[str, Any]]) -> Any:
    """What the members are corrections to and their files do not hold.

    Raises
    ------
    InputError
        If that is not the same for all of them.
    """
    missing = [None if (b := member.get("baseline")) is None or b["included"] else b for member in members]
    if any(b != missing[0] for b in missing):
        raise InputError(
            "the members are corrections to different baselines", expected="the same data.baseline"
        )
    return missing[0]


def _features(member: Mapping[str, Any]) -> Any:
    """What decides the features of a model: equal for models whose features are the same functions."""
    features = family_of(member["spec"]).same_features(member["spec"])
    return id(member) if features is None else features


def common_ranges(groups: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any] | None:
    """Ranges of the features of each group of members (their metadata) side by side; None if one has none.

    They are padded with [0, 0] as the features are with zeros.
    """
    if any(member["feature_ranges"] is None for group in groups for member in group):
        return None
    elements = groups[0][0]["elements"]
    common: dict[str, Any] = {element: {"min": [], "max": []} for element in elements}
    for group in groups:
        width = max(len(group[0]["feature_ranges"][element]["min"]) for element in elements)
        for element in elements:
            ranges = [member["feature_ranges"][element] for member in group]
            padding = [0.0] * (width - len(ranges[0]["min"]))
            common[element]["min"] += [max(v) for v in zip(*(r["min"] for r in ranges), strict=True)]
            common[element]["max"] += [min(v) for v in zip(*(r["max"] for r in ranges), strict=True)]
            common[element]["min"] += padding
            common[element]["max"] += padding
    return common


def check_metadata(text: str, where: str) -> dict[str, Any]:
    """Parse the metadata of the file called `where` and make sure that this nnpkit understands it.

    Raises
    ------
    InputError
        If it is missing or damaged, or describes another format, format version, unit or sign.
    """
    again = "export the model again with this nnpkit, or install the nnpkit that wrote it"
    if not text:
        raise InputError(
            "a TorchScript file, but no nnpkit model: it has no metadata", where=where,
            hint="write it with nnpkit export",
        )  # fmt: skip
    try:
        metadata = json.loads(text)
        if metadata["format"] != FORMAT:
            raise InputError(f"the format is {metadata['format']!r}", where=where, expected=repr(FORMAT))
        if metadata["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"model file of format version {metadata['format_version']}", where=where,
                expected=f"version {FORMAT_VERSION}", hint=again,
            )  # fmt: skip
        for key, value in (("units", _UNITS), ("sign", _SIGN)):
            if metadata[key] != value:
                raise InputError(f"{key} {metadata[key]!r}", where=where, expected=repr(value), hint=again)
        if not metadata["elements"] or not metadata["cutoff"] > 0.0 or not isinstance(metadata["spec"], dict):
            raise InputError("the metadata names no elements, no cutoff or no model", where=where, hint=again)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the metadata of this model are damaged ({type(error).__name__}: {error})", where=where,
            hint="copy or export the file again",
        ) from None  # fmt: skip
    return metadata
