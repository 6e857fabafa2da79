"""Links between the built pages of the documentation: what leads nowhere fails `make docs`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tree import ROOT

GOOD = '<h1 id="top">a</h1><a href="b.html#two">b</a><a href="#top">up</a><a href="https://x.org/none">x</a>'
OTHER = '<a id="two"></a><img src="picture%20one.png"><a href="a.html?v=1">a</a><a href="folder/">f</a>'


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """The script as `make docs` calls it."""
    script = ROOT / "docs" / "_ext" / "check_links.py"
    return subprocess.run([sys.executable, script, folder], capture_output=True, text=True)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Two pages, a picture and a folder, that all lead somewhere."""
    (tmp_path / "folder").mkdir()
    for name, text in (
        ("a.html", GOOD),
        ("b.html", OTHER),
        ("folder/index.html", '<a href="../b.html">b</a>'),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "picture one.png").touch()
    return tmp_path


def test_links_that_lead_somewhere(pages: Path) -> None:
    done = check(pages)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 pages, 6 links between them, 0 lead nowhere\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('<a href="c.html">c</a>', "c.html: no such file"),
        ('<a href="b.html#three">b</a>', "b.html#three: no such place on that page"),
        ('<a href="#bottom">b</a>', "#bottom: no such place on that page"),
        ('<img src="gone.png">', "gone.png: no such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(pages: Path, text: str, words: str) -> None:
    (pages / "a.html").write_text(GOOD + text, encoding="utf-8")
    done = check(pages)
    assert done.returncode == 1
    assert done.stderr == f"a.html: {words}\n"


def test_no_pages_are_no_success(tmp_path: Path) -> None:
    assert check(tmp_path).returncode == 1


def test_links_are_checked_and_published_with_the_documentation() -> None:
    """`make docs` checks, and the workflow publishes what `make docs` has built."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.split("\ndocs: ")[1].split("\n\n")[0]
    assert recipe.index("-m sphinx -W") < recipe.index("check_links.py docs/_build/html")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "docs.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["docs"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make docs"]
    assert {"path": "docs/_build/html"} in [step.get("with") for step in steps]
