"""All keys of a configuration, from its pydantic models."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

__all__ = ["keys_of", "plain_key", "without_sections"]


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted keys of `model` and of all sections below it.

    A section that is chosen by its ``kind`` has it in brackets, ``optimizer[adam].betas``; what stands in a list or
    under a name of the user's has a star, ``conditions.*.steps``.
    """
    for name, field in model.model_fields.items():
        key = prefix + name
        yield key
        found = list(sections(field.annotation))
        for section, inside in found:
            kinds = (
                get_args(section.model_fields["kind"].annotation) if "kind" in section.model_fields else ()
            )
            chosen = f"[{kinds[0]}]" if len(kinds) == 1 and len(found) > 1 else ""
            yield from keys_of(section, f"{key}{chosen}{inside}.")


def sections(annotation: Any, inside: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Models in a type, each with ``.*`` for every list or mapping around it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, inside
    elif origin is Annotated:
        yield from sections(arguments[0], inside)
    elif origin in (list, dict, tuple):
        for argument in arguments:
            yield from sections(argument, inside + ".*")
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from sections(argument, inside)
    else:
        assert origin in (None, Literal), f"the walk does not know {annotation}"


def plain_key(key: str) -> str:
    """The key as it is written in an override, without kinds in brackets."""
    return re.sub(r"\[\w+\]", "", key)


def without_sections(model: type[BaseModel]) -> set[str]:
    """Keys that hold a value: what only has keys below it is shown by these."""
    keys = list(keys_of(model))
    return {key for key in keys if not any(re.match(re.escape(key) + r"(\[\w+\])?\.", k) for k in keys)}
