"""Links between built pages, pictures and scripts among them, lead somewhere: ``python check_links.py FOLDER``.

Sphinx checks what it resolves itself; links written as HTML, by the theme or by a tutorial, are only seen in the
pages. Addresses outside are counted, not asked: the documentation is built without a network.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

__all__ = ["broken_links", "main"]

_OUTSIDE = re.compile(r"(https?:|mailto:|data:|javascript:|//)")


class _Page(HTMLParser):
    """Names that a page has, and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One element."""
        for key, value in attrs:
            if value and key in ("id", "name"):
                self.names.add(value)
            elif value and key in ("href", "src"):
                self.links.append(value)


def broken_links(folder: Path) -> tuple[list[str], dict[str, int]]:
    """Lines about links that lead nowhere, and how many pages, links and addresses outside there are."""
    pages = {
        path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))
    }
    counts, broken = {"pages": len(pages), "links": 0, "outside": 0}, []
    for path, page in pages.items():
        for link in page.links:
            if _OUTSIDE.match(link):
                counts["outside"] += 1
                continue
            counts["links"] += 1
            file, _, name = unquote(link).partition("#")
            target = (path.parent / file.split("?")[0]).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            words = "" if target.exists() else "no such file"
            if not words and name and target in pages and name not in pages[target].names:
                words = "no such place on that page"
            if words:
                broken.append(f"{path.relative_to(folder.resolve())}: {link}: {words}")
    return broken, counts


def main() -> int:
    """Print what leads nowhere; 1 if anything does, or if there are no pages."""
    broken, counts = broken_links(Path(sys.argv[1]))
    for line in broken:
        print(line, file=sys.stderr)
    print(f"{counts['pages']} pages, {counts['links']} links between them, {len(broken)} lead nowhere")
    return 1 if broken or not counts["pages"] else 0


if __name__ == "__main__":
    sys.exit(main())
