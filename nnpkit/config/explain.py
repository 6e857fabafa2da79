"""Validation errors of pydantic in words: place, what is wrong, what was expected, the nearest valid key."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from nnpkit.config.yaml_values import Document, Key, dotted
from nnpkit.errors import InputError

__all__ = ["explain"]


def explain(error: ValidationError, schema: type[BaseModel], document: Document) -> InputError:
    """The first thing to correct, as an `InputError`.

    Unknown keys come before wrong values; of the several complaints of a union, the one about the innermost
    value is taken, and of these one in the schema's own words.
    """
    problems = [(_key_in(document.values, p), p) for p in error.errors(include_url=False)]
    key, problem = min(
        problems,
        key=lambda item: (
            item[1]["type"] != "extra_forbidden",
            -len(item[0]),
            item[1]["type"] != "value_error",
        ),
    )
    where = document.where(key)
    if problem["type"] == "extra_forbidden":
        return _unknown_key(schema, document, key, where)
    if problem["type"] == "value_error":  # raised by a validator of the schema in its own words
        text = str(problem["ctx"]["error"])
        return InputError(f"{dotted(key)}: {text}" if key else text, where=where)
    if problem["type"] == "union_tag_invalid":
        tags = problem["ctx"]["expected_tags"]
        return InputError(f"{dotted(key)}.kind is {problem['ctx']['tag']!r}", where=where, expected=tags)
    expected = _expected(schema, document, key)
    if problem["type"] == "missing":
        return InputError(f"the key {dotted(key)} is missing", where=where, expected=expected)
    if problem["loc"][-1] == "[key]":
        return InputError(f"unknown key {dotted(key)}", where=where, expected=problem["ctx"].get("expected"))
    return InputError(f"{dotted(key)} is {_shown(_value_at(document, key))}", where=where, expected=expected)


def _key_in(values: Any, problem: Mapping[str, Any]) -> Key:
    """Place of a problem without the parts that name a member of a union and are no place in `values`."""
    key: list[str | int] = []
    node = values
    for part in problem["loc"]:
        if _has(node, part):
            key.append(part)
            node = node[part]
    return (*key, problem["loc"][-1]) if problem["type"] == "missing" else tuple(key)


def _value_at(document: Document, key: Key) -> Any:
    try:
        return document.at(key)
    except (KeyError, IndexError, TypeError):
        return None


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    text = (
        {None: "null", True: "true", False: "false"}[value] if isinstance(value, bool | None) else repr(value)
    )
    return text if len(text) < 60 else text[:57] + "..."


def _unknown_key(schema: type[BaseModel], document: Document, key: Key, where: str) -> InputError:
    """Suggest the key of the same section that looks most like the unknown one, or the same key elsewhere."""
    *parent, name = key
    value = _value_at(document, tuple(parent))
    annotation = _type_at(schema, document.values, tuple(parent))
    sections = _sections(annotation, value)
    valid = [field for section in sections for field in section.model_fields]
    prefix = f"{dotted(parent)}." if parent else ""
    others = [s for s in _sections(annotation, None) if name in s.model_fields and s not in sections]
    elsewhere = [path for path in _all_keys(schema, "") if path.rsplit(".", 1)[-1] == name]
    elsewhere.sort(key=lambda path: path.count("."))  # the least special one first
    of_another_kind = dotted(key) in elsewhere
    if others:
        kind = others[0].model_fields["kind"].default
        hint = f"it belongs to {prefix}kind: {kind}; valid here: {', '.join(valid)}"
    elif of_another_kind:
        hint = (
            f"it belongs to another kind of {dotted(parent[:-1]) or 'file'}; valid here: {', '.join(valid)}"
        )
    elif near := get_close_matches(str(name), valid, 1, 0.7):
        hint = f"did you mean {prefix}{near[0]}?"
    elif elsewhere:
        hint = f"did you mean {elsewhere[0]}?"
    elif near := get_close_matches(str(name), valid, 1, 0.45):
        hint = f"did you mean {prefix}{near[0]}?"
    else:
        hint = f"valid here: {', '.join(valid)}"
    return InputError(f"unknown key {dotted(key)}", where=where, hint=hint)


def _all_keys(schema: type[BaseModel], prefix: str) -> Iterator[str]:
    """Every dotted key of the schema."""
    for name, info in schema.model_fields.items():
        yield prefix + name
        for section in _sections(info, None):
            yield from _all_keys(section, f"{prefix}{name}.")


def _members(annotation: Any) -> list[Any]:
    """Members of a union, without wrappers."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for a in get_args(annotation) for m in _members(a)]
    return [annotation]


def _sections(annotation: Any, value: Any) -> list[type[BaseModel]]:
    """Sections that `annotation` admits; of several that differ in ``kind``, the one that `value` names.

    A mapping that names no kind is of the first.
    """
    if isinstance(annotation, FieldInfo):
        annotation = annotation.annotation
    found = [m for m in _members(annotation) if isinstance(m, type) and issubclass(m, BaseModel)]
    if isinstance(value, dict) and len(found) > 1:
        kind = value.get("kind", found[0].model_fields["kind"].default)
        found = [m for m in found if m.model_fields["kind"].default == kind] or found
    return found


def _type_at(schema: type[BaseModel], values: Any, key: Key) -> Any:
    """Annotation of the value at `key`; a `FieldInfo` where the last step is a field."""
    annotation: Any = schema
    node = values
    for part in key:
        inner = annotation.annotation if isinstance(annotation, FieldInfo) else annotation
        for section in _sections(inner, node):
            if part in section.model_fields:
                annotation = section.model_fields[str(part)]
                break
        else:
            containers = [m for m in _members(inner) if get_origin(m) in (dict, list)]
            if not containers:
                return None
            annotation = get_args(containers[0])[-1]
        node = node[part] if _has(node, part) else None
    return annotation


def _has(node: Any, part: Any) -> bool:
    if isinstance(node, dict):
        return part in node
    return isinstance(node, list) and isinstance(part, int) and part < len(node)


def _expected(schema: type[BaseModel], document: Document, key: Key) -> str | None:
    annotation = _type_at(schema, document.values, key)
    return None if annotation is None else in_words(annotation)


_PLAIN = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


def in_words(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """What values `annotation` admits, for a person."""
    if isinstance(annotation, FieldInfo):
        return in_words(annotation.annotation, tuple(annotation.metadata))
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return in_words(inner, (*more, *metadata))
    members = _members(annotation)
    if len(members) > 1:
        return " or ".join(dict.fromkeys(in_words(a) for a in get_args(annotation)))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(str(a) for a in arguments)
    if origin is list:
        return f"a list of {_plural(in_words(arguments[0]))}{_bounds(metadata)}"
    if origin is dict:
        return f"a mapping of names to {_plural(in_words(arguments[1]))}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a mapping with the keys {', '.join(annotation.model_fields)}"
    return _PLAIN.get(annotation, "another value") + _bounds(metadata)


def _plural(words: str) -> str:
    return words.replace("a whole number", "whole numbers").replace("a number", "numbers")


def _bounds(metadata: tuple[Any, ...]) -> str:
    found = []
    for item in metadata:
        for part in [item, *getattr(item, "metadata", [])]:
            for sign, name in ((">", "gt"), ("≥", "ge"), ("<", "lt"), ("≤", "le")):
                if (bound := getattr(part, name, None)) is not None:
                    found.append(f"{sign} {bound:g}")
            if getattr(part, "min_length", None) is not None:
                found.append(f"(at least {part.min_length})")
    return " " + ", ".join(dict.fromkeys(found)) if found else ""
