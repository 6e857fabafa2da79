"""Tutorials are executed when the documentation is built: what they print is shown, what fails fails the build."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
from tree import ROOT


@pytest.fixture(scope="module")
def extension():
    """The Sphinx extension that executes tutorials."""
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        return import_module("nnpkit_run")
    finally:
        sys.path.pop(0)


def test_blocks_run_in_order_in_one_folder_and_are_kept(extension, tmp_path: Path) -> None:
    page = "# T\n\n```{run}\necho one > a\ncat a\n```\n\ntext\n\n```{run}\n:lines: 3\ncat a; date +%N\n```\n"
    blocks = extension.blocks_of(page)
    assert blocks == ["echo one > a\ncat a", "cat a; date +%N"]
    first = extension.Tutorial("a/page", blocks, tmp_path).outputs()
    assert first[0] == "one"
    assert first[1].startswith("one\n")
    assert extension.Tutorial("a/page", blocks, tmp_path).outputs() == first  # not executed again
    assert extension.Tutorial("a/page", [blocks[0], "echo two"], tmp_path).outputs()[1] == "two"


@pytest.mark.parametrize(
    "block", ["nnpkit train nothing.yaml", "false; echo fine", "false | cat", "echo $NOWHERE_SET"]
)
def test_a_block_that_fails_fails_the_build(extension, tmp_path: Path, block: str) -> None:
    tutorial = extension.Tutorial("page", ["true", block], tmp_path)
    with pytest.raises(RuntimeError, match="block 2 of page ends with exit code"):
        tutorial.outputs()
    assert list(tmp_path.iterdir()) == []  # nothing is kept that would hide it


def test_every_tutorial_has_something_to_run(extension) -> None:
    pages = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
    assert len(pages) >= 2
    for page in pages:
        blocks = extension.blocks_of(page.read_text(encoding="utf-8"))
        assert blocks, page.name
        assert page.read_text(encoding="utf-8").count("```{run}") == len(blocks), page.name
        assert len(set(blocks)) == len(blocks), page.name
