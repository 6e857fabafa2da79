"""Potentials with charges in one file, committee.pt: each member is a potential of its own, with its own charges.

No function of environments gives the mean of members whose charges depend on whole structures. So the file holds the
stages of every member, as its own file would, and whoever evaluates it evaluates them one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from nnpkit.data.structure import Structure
from nnpkit.deploy.metadata import committee_metadata, common_ranges
from nnpkit.deploy.targets.charged_file import OF_CHARGES, charged_export, write_scripted
from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.sum_model import charged_part

__all__ = ["export_charged_committee"]


def export_charged_committee(
    members: Sequence[AtomicModel],
    metadata: Sequence[Mapping[str, Any]],
    path: str | Path,
    frame: Structure | None = None,
    extra_metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `members` as one file, atomically; see `nnpkit.deploy.targets.committee_file.export_committee`.

    Raises
    ------
    InputError
        If a member has no charges, more or fewer of each atom than another, or was drawn around another one.
    """
    channels = []
    for index, (member, described) in enumerate(zip(members, metadata, strict=True)):
        charged = charged_part(member)
        if charged is None or "drawn" in described:
            reason = "was drawn around another potential" if charged else "has no charges, and others have"
            raise InputError(
                f"member {index + 1} {reason}", where=str(path), expected="members that were trained with charges",
                hint="train a committee with model.charges",
            )  # fmt: skip
        channels.append(len(charged.charge_networks))
    if len(set(channels)) > 1:
        raise InputError(
            f"the members have {' and '.join(map(str, sorted(set(channels))))} charges of each atom", where=str(path),
            expected="the same model.charges.channels",
        )  # fmt: skip
    together, groups = committee_metadata(metadata)
    together |= {
        "spec": {"kind": "committee", "parts": [member.spec for member in members]},
        **(extra_metadata or {}),
    }
    together["members"], module = [], nn.Module()
    for index, (member, described) in enumerate(zip(members, metadata, strict=True)):
        own = {name: value for name, value in described.items() if name not in OF_CHARGES}
        group = next(([metadata[m] for m in group] for group in groups if group[0] == index), None)
        ranges = None if group is None or together["feature_ranges"] is None else common_ranges([group])
        own |= {"feature_ranges": ranges, "describes": group is not None}
        exported = charged_export(member, own, frame, f"{path}, member {index + 1}")
        together["members"].append(exported.description)
        module.add_module(f"member_{index}", exported.module)
    write_scripted(module, together, path)
    return together
