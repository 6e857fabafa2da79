"""Tutorials that are executed when the documentation is built: the directive ``{run}`` and what it shows.

The commands of a page run one block after the other in a folder of their own. A block that fails fails the build. What
a block has printed is kept in ``docs/_build/executed`` until a command of the page, or the version, changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from nnpkit import __version__

__all__ = ["Tutorial", "blocks_of", "setup"]

_FENCE = re.compile(
    r"^```\{run\}[^\n]*\n(?P<options>(?::[^\n]*\n)*)(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LIMIT = 900  # s, of one block
_NOISE = re.compile(r"\x1b\[[0-9;]*m")


def blocks_of(page: str) -> list[str]:
    """The commands of every ``{run}`` block of a page, in their order."""
    return [match["text"].strip("\n") for match in _FENCE.finditer(page)]


class Tutorial:
    """The blocks of a page, executed in order; what is known is not executed again.

    Parameters
    ----------
    name : str
        Of the page.
    blocks : list of str
        Commands for bash.
    store : path
        Where outputs and pictures are kept.
    """

    def __init__(self, name: str, blocks: list[str], store: Path) -> None:
        self.name, self.blocks = name, blocks
        key = hashlib.sha256("\0".join([__version__, name, *blocks]).encode()).hexdigest()[:16]
        self.store = store / f"{name.replace('/', '-')}-{key}"

    def outputs(self) -> list[str]:
        """What each block prints.

        Raises
        ------
        RuntimeError
            If a block fails; it says which, and the end of its output.
        """
        known = self.store / "outputs.json"
        if not known.exists():
            self._execute()
        return list(json.loads(known.read_text(encoding="utf-8")))

    def _execute(self) -> None:
        shutil.rmtree(self.store, ignore_errors=True)
        self.store.parent.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}", "COLUMNS": "100",
            "MPLBACKEND": "Agg", "PYTHONWARNINGS": "ignore", "TERM": "dumb", "NO_COLOR": "1",
        }  # fmt: skip
        printed = []
        with tempfile.TemporaryDirectory(prefix="nnpkit-tutorial-") as folder:
            for number, block in enumerate(self.blocks, 1):
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=environment, text=True, check=False,
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_LIMIT,
                )  # fmt: skip
                words = _NOISE.sub("", done.stdout).replace(f"{folder}/", "")
                if done.returncode:
                    raise RuntimeError(
                        f"block {number} of {self.name} ends with exit code {done.returncode}: {words[-600:]}"
                    )
                printed.append("\n".join(line.rstrip() for line in words.splitlines()))
            shutil.copytree(folder, self.store)
        (self.store / "outputs.json").write_text(json.dumps(printed, indent=1), encoding="utf-8")


def _directive() -> Any:
    """The directive; Sphinx is imported when the documentation is built and not before."""
    from docutils import nodes
    from docutils.parsers.rst import directives
    from sphinx.util.docutils import SphinxDirective

    class Run(SphinxDirective):
        """Show commands, what they print, and perhaps a picture that they leave."""

        has_content = True
        option_spec = {"picture": directives.unchanged, "lines": directives.positive_int}  # noqa: RUF012

        def run(self) -> list[nodes.Node]:
            """Nodes of the commands, the last lines of the output, and the picture."""
            text = "\n".join(self.content).strip("\n")
            page = Path(self.env.doc2path(self.env.docname)).read_text(encoding="utf-8")
            blocks = blocks_of(page)
            store = Path(self.env.app.outdir).parent / "executed"
            tutorial = Tutorial(self.env.docname, blocks, store)
            try:
                output = tutorial.outputs()[blocks.index(text)]
            except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
                raise self.error(f"the tutorial fails: {error}") from None
            commands = nodes.literal_block(text, text, language="bash")
            found: list[nodes.Node] = [commands]
            if output:
                lines = output.splitlines()
                shown = "\n".join(lines[-self.options.get("lines", 30) :])
                found.append(nodes.literal_block(shown, shown, language="text"))
            if picture := self.options.get("picture"):
                name = f"{tutorial.store.name}-{Path(picture).name}"
                target = Path(self.env.app.outdir) / "_images" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tutorial.store / picture, target)
                depth = "../" * self.env.docname.count("/")
                html = f'<img src="{depth}_images/{name}" alt="{Path(picture).stem}" style="max-width:36rem">'
                found.append(nodes.raw(html, html, format="html"))
            return found

    return Run


def setup(app: Any) -> dict[str, bool]:
    """Entry point of the Sphinx extension."""
    app.add_directive("run", _directive())
    return {"parallel_read_safe": False, "parallel_write_safe": True}
