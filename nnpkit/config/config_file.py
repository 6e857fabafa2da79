"""From a YAML file and ``key=value`` overrides to a checked `Config`, and back to a complete YAML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from nnpkit.config.explain import explain
from nnpkit.config.schema import Config
from nnpkit.config.yaml_values import Document, Key, apply_override, dotted, read_document
from nnpkit.errors import InputError
from nnpkit.files import atomic_write

__all__ = ["config_from_mapping", "load_config", "write_config"]


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Configuration in the YAML file `path`, changed by `overrides` such as ``training.epochs=50``.

    Relative data paths of the file count from its folder, those of overrides from the current folder; in the
    result they are absolute.

    Raises
    ------
    InputError
        Naming file, line and key, for anything that is not as the schema says and for data files that do not
        exist.
    """
    document = read_document(path)
    for override in overrides:
        apply_override(document, override)
    return _validate(document)


def config_from_mapping(values: Mapping[str, Any], folder: str | Path = ".") -> Config:
    """Configuration from nested mappings; relative data paths count from `folder`."""
    return _validate(Document(dict(values), "configuration", Path(folder)))


def write_config(config: Config, path: str | Path) -> None:
    """Write every setting of `config`, defaults included, as YAML that `load_config` reads."""
    with atomic_write(path) as stream:
        yaml.safe_dump(config.model_dump(mode="json"), stream, sort_keys=False, allow_unicode=True, width=100)


def _validate(document: Document) -> Config:
    try:
        config = Config.model_validate(document.values)
    except ValidationError as error:
        raise explain(error, Config, document) from None
    _check_elements(config, document)
    _resolve_paths(config, document)
    return config


def _check_elements(config: Config, document: Document) -> None:
    """Refuse names that are no chemical elements wherever elements are expected."""
    from ase.data import atomic_numbers

    model = config.model
    named: list[tuple[Key, str]] = [(("model", "elements"), e) for e in model.elements or ()]
    named += [(("model", "network", "per_element", e), e) for e in model.network.per_element]
    if isinstance(model.wall, dict):
        named += [(("model", "wall", pair), e) for pair in model.wall for e in _pair(pair, document)]
    if isinstance(config.data.reference_energies, dict):
        named += [(("data", "reference_energies", e), e) for e in config.data.reference_energies]
    named += [(("model", *key), e) for key, e in model.named_elements()]
    for key, element in named:
        if element not in atomic_numbers or element == "X":
            raise InputError(
                f"{dotted(key)}: {element!r} is no chemical element", where=document.where(key),
                expected="symbols such as H or Cu",
            )  # fmt: skip
    if model.elements is not None and len(set(model.elements)) < len(model.elements):
        key = ("model", "elements")
        raise InputError("model.elements names an element twice", where=document.where(key))


def _pair(pair: str, document: Document) -> list[str]:
    elements = pair.split("-")
    if len(elements) != 2:
        key = ("model", "wall", pair)
        raise InputError(
            f"{pair!r} is no pair of elements", where=document.where(key), expected="for example O-H"
        )
    return elements


def _resolve_paths(config: Config, document: Document) -> None:
    """Make data paths absolute; InputError for one that does not exist."""

    def resolved(path: str, key: Key) -> str:
        where = document.where(key)
        folder = Path() if where.startswith("command line") else document.folder
        full = (folder / Path(path).expanduser()).absolute()
        if not full.exists() and not (has_magic(path) and glob(str(full), recursive=True)):
            raise InputError(f"{dotted(key)}: there is no {path}", where=where, hint=f"looked for {full}")
        return str(full)

    config.data.train = [resolved(p, ("data", "train", n)) for n, p in enumerate(config.data.train)]
    if config.data.validation is not None:
        named = enumerate(config.data.validation)
        config.data.validation = [resolved(p, ("data", "validation", n)) for n, p in named]
    if config.data.test is not None:
        config.data.test = [resolved(p, ("data", "test", n)) for n, p in enumerate(config.data.test)]
    config.model.resolve_files(lambda path, key: resolved(path, ("model", *key)))
