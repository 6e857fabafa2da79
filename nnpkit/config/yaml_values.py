"""YAML text to plain values that remember their line, with the traps of YAML 1.1 removed.

Only ``true`` and ``false`` are booleans (``on``, ``No`` and ``y`` are text), ``1e-3`` is a number, ``1:30``
is text, nothing is a date, and a key given twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nnpkit.errors import InputError

__all__ = ["Document", "Key", "apply_override", "dotted", "read_document"]

_OF_DATA = "if these are data, `nnpkit new {}` writes settings for them"

Key = tuple[str | int, ...]
"""Place of a value: keys and list positions from the top."""


class _Loader(yaml.SafeLoader):
    """Safe loader with the scalar types of YAML 1.2."""


def _number(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"^(?:{pattern})$")


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(_tag, _number(_pattern), list(_first))


@dataclass
class Document:
    """Values of a YAML file, and where each of them was written."""

    values: dict[str, Any]
    name: str
    folder: Path
    places: dict[Key, str] = field(default_factory=dict)

    def where(self, key: Key) -> str:
        """Where the value at `key`, or the nearest section around it, was written."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.places:
                return self.places[key[:length]]
        return self.name

    def at(self, key: Key) -> Any:
        """Value at `key`; KeyError, IndexError or TypeError if there is none."""
        value: Any = self.values
        for part in key:
            value = value[part]
        return value


def dotted(key: Sequence[str | int]) -> str:
    """`key` as a person writes it: ``data.train``."""
    return ".".join(str(part) for part in key)


def read_document(path: str | Path) -> Document:
    """Read a YAML file whose top level is a mapping.

    Raises
    ------
    InputError
        Naming file and line: no such file, not UTF-8, not YAML, a key twice, no mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the configuration ({error.strerror})", where=str(path)) from None
    except UnicodeDecodeError:
        raise InputError(
            "is no text file", where=str(path), expected="YAML in UTF-8", hint=_OF_DATA.format(path)
        ) from None
    places: dict[Key, str] = {}
    values = _parse(text, str(path), places)
    if not isinstance(values, dict):
        raise InputError(
            "holds no settings", where=str(path), expected="a YAML mapping with the key data",
            hint=_OF_DATA.format(path),
        )  # fmt: skip
    return Document(values, str(path), path.parent, places)


def _parse_value(text: str, where: str) -> Any:
    """Value of `text` read as YAML."""
    return _parse(text, where, {})


def _parse(text: str, name: str, places: dict[Key, str]) -> Any:
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _visit(node, (), name, places, set())
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = name if mark is None else f"{name}, line {mark.line + 1}"
        problem = getattr(error, "problem", None) or "not readable"
        raise InputError(
            f"no valid YAML: {problem}", where=where, hint="check quotes, colons and indentation"
        ) from None
    except (RecursionError, ValueError, TypeError) as error:
        raise InputError(f"no valid YAML: {error}", where=name) from None
    finally:
        if loader is not None:
            loader.dispose()


def _visit(node: yaml.Node, key: Key, name: str, places: dict[Key, str], seen: set[int]) -> None:
    """Note the line of every value below `node`; refuse keys that stand twice in one mapping."""
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    children: list[tuple[str | int, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(str(k.value), k, v) for k, v in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(n, v, v) for n, v in enumerate(node.value)]
    for part, mark, value in children:
        here = (*key, part)
        place = f"{name}, line {mark.start_mark.line + 1}"
        if here in places and part != "<<":
            raise InputError(
                f"the key {dotted(here)} is given twice", where=place, hint=f"first in {places[here]}"
            )
        places[here] = place
        _visit(value, here, name, places, seen)


def apply_override(document: Document, text: str) -> None:
    """Change `document` by one ``key=value`` of the command line.

    The key is dotted (``training.optimizer.kind``; a number selects an item of a list), the value is YAML.
    Sections that do not exist yet are made.
    """
    name, equals, value_text = text.partition("=")
    key: Key = tuple(name.strip().split("."))
    if not equals or not all(key):
        raise InputError(
            f"cannot understand the override {text!r}", where="command line",
            expected="key=value, for example training.epochs=50",
        )  # fmt: skip
    place = f"command line, {text}"
    value = value_text if value_text.startswith("*") else _parse_value(value_text, place)  # *.xyz is no alias
    node: Any = document.values
    here: Key = ()
    for depth, part in enumerate(key):
        step: Any = _position(node, str(part), place) if isinstance(node, list) else part
        here = (*here, step)
        if depth == len(key) - 1:
            node[step] = value
        elif not ((isinstance(node, list) or step in node) and isinstance(node[step], (dict, list))):
            node[step] = {}
            document.places[here] = place
        node = node[step]
    document.places = {k: v for k, v in document.places.items() if k[: len(here)] != here}
    document.places[here] = place


def _position(items: list[Any], part: str, place: str) -> int:
    if not part.isdigit() or int(part) >= len(items):
        raise InputError(f"{part!r} is no item of the list", where=place, expected=f"0 to {len(items) - 1}")
    return int(part)
