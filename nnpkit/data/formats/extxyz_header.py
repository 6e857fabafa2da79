"""The second line of an extended XYZ frame: ``key=value`` pairs, units beside numbers, LAMMPS' own header.

The grammar is the one of ASE and libAtoms (https://github.com/libAtoms/extxyz): quoted strings, old
``"1 2 3"`` and ``{1 2 3}`` and new ``[1, 2, 3]`` and ``[[1, 2], [3, 4]]`` arrays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from nnpkit.data.formats.stated_units import StatedUnits, is_unit, take_units
from nnpkit.data.notes import note
from nnpkit.errors import InputError

__all__ = ["BOOLEANS", "header_units", "parse_key_values", "take", "value_of"]

_BRACKETS = r"\[(?:[^\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])*\]|\{(?:[^{}]|\{[^{}]*\})*\}"
_QUOTED = r"""\"(?:[^"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"""
_PAIR = re.compile(
    rf"""\s*(?P<key>"(?:[^"\\]|\\.)*"|[^\s="'\[\]{{}}]+)
        (?:\s*=(?:\s*(?P<value>{_QUOTED}|{_BRACKETS})(?=\s|,|$)|(?P<bare>[^\s"'\[\]{{}}]\S*)
        |\s+(?P<spaced>(?![^\s="']+\s*=)[^\s"'\[\]{{}}=]\S*)|(?P<empty>)(?=\s|$)))?(?:,(?=\s|$))?""",
    re.VERBOSE,
)  # a value after a blank is none if it is itself a key with a value: "config_type= energy=-1.5"
_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(
    r"[+-]?(?:\d+\.?\d*(?:[eEdD][+-]?\d+)?|\.\d+(?:[eEdD][+-]?\d+)?|nan|inf(?:inity)?)", re.IGNORECASE
)
BOOLEANS = {"T": True, "F": False, "true": True, "false": False, "True": True, "False": False}
"""Words for truth values."""
BOOLEANS |= {"TRUE": True, "FALSE": False}


def value_of(text: str) -> Any:
    """Python value of the text after an equals sign: number(s), boolean(s), JSON or the text itself."""
    if text.startswith("_JSON "):
        value = json.loads(text[6:])
        array = np.array(value) if isinstance(value, list) and value else None
        return array if array is not None and array.dtype.kind in "ifb" else value
    stripped = text.strip()
    opened = stripped[:1] + stripped[-1:] in ("[]", "{}")
    words = re.sub(r"[\[\]{},]" if opened else ",", " ", text).split()
    converted: list[Any]
    if words and all(_INTEGER.fullmatch(word) for word in words):
        converted = [int(word) for word in words]
    elif words and all(_FLOAT.fullmatch(word) for word in words):
        converted = [float(word.replace("d", "e").replace("D", "e")) for word in words]
    elif words and all(word in BOOLEANS for word in words):
        converted = [BOOLEANS[word] for word in words]
    else:
        return text
    if len(converted) == 1:
        return converted[0]
    rows = len(re.findall(r"[\]}]", text)) - 1  # of a nested array; brackets close once more around all
    nested = opened and rows > 1 and len(converted) % rows == 0
    return np.array(converted).reshape(rows, -1) if nested else np.array(converted)


def parse_key_values(line: str) -> dict[str, Any]:
    """Contents of the second line of a frame; a line of plain words becomes ``{"comment": line}``.

    Raises
    ------
    ValueError
        If quotes or brackets are not closed, a unit beside a number is not eV or Å, or a key stands twice.
    """
    if "=" not in line:
        return {"comment": line.strip()} if line.strip() else {}
    pairs: dict[str, Any] = {}
    line, end, last = line.strip(), 0, ""
    while end < len(line):
        match = _PAIR.match(line, end)
        if match is None:
            raise ValueError(f"quotes or brackets at {line[end : end + 30].strip()!r}")
        end = match.end()
        key = match["key"]
        key = key[1:-1].replace('\\"', '"') if key[0] == '"' else key
        text = next((match[g] for g in ("value", "bare", "spaced", "empty") if match[g] is not None), None)
        if text is None and _is_unit_of(pairs.get(last), key):
            _require_internal(last, pairs[last], key)
            continue
        value = _python_value(key, text, match["value"] is not None)
        if key in pairs and not np.array_equal(pairs[key], value):
            raise ValueError(f"{key} stands twice, with different values")
        pairs[key], last = value, key
    return pairs


def _python_value(key: str, text: str | None, enclosed: bool) -> Any:
    if text is None:
        return True
    if not enclosed:
        if re.search(r"[,;]\s*[A-Za-z_]\w*=", text):
            raise ValueError(f"{key}={text[:40]} holds several keys; separate them by blanks")
        return value_of(text.rstrip(","))
    if text[0] in "\"'":
        return value_of(re.sub(r"\\(.)", r"\1", text[1:-1]))
    value = value_of(text)
    return text[1:-1] if isinstance(value, str) else value


def _is_unit_of(value: Any, word: str) -> bool:
    number = isinstance(value, (int, float, np.ndarray)) and not isinstance(value, bool)
    return number and is_unit(word.rstrip(",;"))


def _require_internal(key: str, value: Any, unit: str) -> None:
    try:
        stated = take_units({"units": unit.rstrip(",;")}, key)
    except InputError:
        stated = None
    if stated is None or not set(stated) <= {None, 1.0}:
        raise ValueError(f"{key}={value} is followed by the unit {unit}; only eV, eV/Å and eV/Å^3 are read")


def take(pairs: dict[str, Any], name: str) -> Any:
    """Remove the value of a key, whatever its case."""
    return next((pairs.pop(key) for key in list(pairs) if key.lower() == name), None)


def header_units(
    info: dict[str, Any], arrays: dict[str, np.ndarray], keys: Mapping[str, str] | None, name: str, where: str
) -> StatedUnits | None:
    """Units that a header states; the header of LAMMPS' ``dump extxyz`` is brought into our conventions.

    LAMMPS (2025 on) writes ``Potential_energy`` and, without units, ``Stress`` in bar with the sign of a
    pressure and the kinetic part in it: no label. It stays among the extras as ``lammps_pressure_bar``.
    """
    if "Timestep" not in info or not {"Potential_energy", "Stress"} & info.keys():
        return take_units(info, where)
    if (keys or {}).get("stress") == "Stress":
        raise InputError(
            "Stress of LAMMPS' dump extxyz is a pressure in bar with the kinetic part in it, no label",
            where=where, hint="remove stress from labels",
        )  # fmt: skip
    said = "written by LAMMPS' dump extxyz"
    if (units := take_units(info, where)) is None:
        said += ", taken as units metal"
    if "Potential_energy" in info and "energy" not in info and "energy" not in (keys or {}):
        info["energy"] = info.pop("Potential_energy")
        said += "; Potential_energy as energy"
    if "Stress" in info:
        info["lammps_pressure_bar"] = info.pop("Stress")
        said += "; its Stress (bar, opposite sign, with the kinetic part) is no label and stays as lammps_pressure_bar"
    if "vel" in arrays and units is None:
        arrays["velocities"] = arrays.pop("vel") * 0.001  # Å/fs
    note(said, name)
    return units
