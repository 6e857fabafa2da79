"""What is found by name: ours, that of other packages, and one clear error for anything else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from foreign_package import install

from nnpkit.errors import InputError
from nnpkit.registry import Registry

GROUP = "nnpkit.test_things"
OWN = {"path": "pathlib:Path", "fraction": "fractions:Fraction"}


def things() -> Registry:
    return Registry("thing", GROUP, OWN)


def test_our_own_are_imported_when_they_are_asked_for() -> None:
    found = things()
    assert list(found) == ["path", "fraction"]
    assert found.get("path") is Path
    assert "path" in found
    assert "paths" not in found


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"model\.kind: no thing is called 'pth'; expected path, fraction\. Did you mean"
    ):
        things().get("pth", "model.kind")


def test_another_package_adds_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(
        install(tmp_path, {GROUP: "number = adds_one:NUMBER"}, "NUMBER = 7\n", "adds_one")
    )
    found = things()
    assert list(found) == ["path", "fraction", "number"]
    assert "adds_one" not in sys.modules
    assert found.get("number") == 7


def test_a_package_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "raise RuntimeError('no licence')\n"
    monkeypatch.syspath_prepend(
        install(tmp_path, {GROUP: "number = broken_one:NUMBER"}, module, "broken_one")
    )
    with pytest.raises(
        InputError, match=r"the thing 'number' of the package broken_one cannot be loaded \(RuntimeError"
    ):
        things().get("number")
    assert things().get("path") is Path


@pytest.mark.parametrize(
    ("name", "whose"), [("path", "nnpkit itself"), ("number", "the package (first|second)_one")]
)
def test_two_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, whose: str) -> None:
    for package in ("first_one", "second_one"):
        line = {GROUP: f"{name} = {package}:NUMBER"}
        monkeypatch.syspath_prepend(install(tmp_path / package, line, "NUMBER = 7\n", package))
    with pytest.raises(InputError, match=rf"offers a thing '{name}', and so does {whose}"):
        things().names()


def test_one_may_be_added_for_a_process() -> None:
    found = things()
    assert found.add("number", 7) == 7
    assert found.get("number") == 7
    with pytest.raises(InputError, match="there is a thing 'path' already"):
        found.add("path", 7)
