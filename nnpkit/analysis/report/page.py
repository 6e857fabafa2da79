"""Reports as one HTML page with everything inside: text, tables, figures and files to save."""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnpkit.files import atomic_write

__all__ = ["Page", "cell", "image", "link_to_file", "table", "text"]

_STYLE = """
:root{--ink:#22252b;--soft:#5d646e;--line:#dfe3e8;--blue:#1b6ca8;--wash:#f5f7f9}
*{box-sizing:border-box}
body{font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:var(--ink);margin:0}
main{max-width:62rem;margin:0 auto;padding:2rem 1.5rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3rem}
h2{font-size:1.3rem;margin:2.6rem 0 .4rem;padding-top:.7rem;border-top:2px solid var(--line)}
h3{font-size:1.02rem;margin:1.4rem 0 .2rem}
p{margin:.4rem 0;max-width:48rem}.n{color:var(--soft);font-size:.93rem}
a{color:var(--blue)}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;margin:1.2rem 0;font-size:.93rem}
nav a{text-decoration:none}
.say{padding:.55rem .9rem;border-left:4px solid #e09f3e;background:#fdf6ea;margin:.7rem 0;max-width:none}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.6rem,1fr));gap:.7rem;margin:1.2rem 0}
.tile{background:var(--wash);border:1px solid var(--line);border-radius:6px;padding:.6rem .8rem}
.tile b{display:block;font-size:1rem;font-weight:600;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.84rem}
.scroll{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
td,th{border-bottom:1px solid var(--line);padding:.22rem .7rem;text-align:right;vertical-align:top}
th{border-bottom:2px solid #aab1ba;font-weight:600}td.t,th.t{text-align:left}td.t{overflow-wrap:anywhere}
figure{margin:1rem 0}img{max-width:100%;height:auto}figcaption{color:var(--soft);font-size:.88rem;max-width:48rem}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(21rem,1fr));gap:0 1.2rem;align-items:start}
details{margin:.8rem 0}summary{cursor:pointer;color:var(--blue)}
@media print{
@page{size:A4;margin:16mm 14mm}
body{font-size:10pt}main{max-width:none;padding:0}nav,summary,.screen{display:none}
h2{margin-top:1.6rem;break-after:avoid}h3{break-after:avoid}
figure,.tile,tr,.say{break-inside:avoid}.scroll{overflow:visible}
td,th{padding:.12rem .4rem}table{font-size:8.5pt}a{color:inherit;text-decoration:none}
.row{grid-template-columns:1fr 1fr}.tiles{grid-template-columns:repeat(6,1fr)}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
"""


class Page:
    """A page that grows section by section.

    Parameters
    ----------
    title : str
        Of the page.
    subtitle : str
        One line below it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._head: list[str] = []
        self._sections: list[tuple[str, str]] = []  # anchor and title
        self._body: list[str] = []

    def say(self, words: str) -> None:
        """A conspicuous remark above everything else."""
        self._head.append(f'<p class="say">{html.escape(words)}</p>')

    def tiles(self, numbers: Mapping[str, object]) -> None:
        """The few numbers that most people look for first, by their names."""
        tiles = (
            f'<div class="tile"><b>{html.escape(cell(v))}</b><span>{html.escape(k)}</span></div>'
            for k, v in numbers.items()
        )
        self._head.append(f'<div class="tiles">{"".join(tiles)}</div>')

    def section(self, title: str, *parts: str, note: str = "") -> None:
        """A section of HTML `parts`, with an explanation `note` in plain text; none if there are no parts."""
        parts = tuple(part for part in parts if part)
        if not parts:
            return
        anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        self._sections.append((anchor, title))
        about = f'<p class="n">{html.escape(note)}</p>' if note else ""
        self._body.append(f'<h2 id="{anchor}">{html.escape(title)}</h2>{about}{"".join(parts)}')

    def html(self) -> str:
        """The whole page."""
        links = "".join(f'<a href="#{a}">{html.escape(t)}</a>' for a, t in self._sections)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head><body><main>"
            f'<h1>{html.escape(self.title)}</h1><p class="n">{html.escape(self.subtitle)}</p>'
            f"{''.join(self._head)}<nav>{links}</nav>" + "\n".join(self._body) + "</main></body></html>\n"
        )

    def write(self, path: str | Path) -> None:
        """Write the page, atomically."""
        with atomic_write(path) as stream:
            stream.write(self.html())


def text(words: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(words)}</p>"


def image(png: bytes, caption: str = "") -> str:
    """A PNG inside the page, a hundred pixels wide for every inch of the figure, so that all have letters of a size."""
    data, width = base64.b64encode(png).decode(), round(int.from_bytes(png[16:20], "big") / 1.6)
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    picture = f'<img alt="{html.escape(caption)}" width="{width}" src="data:image/png;base64,{data}">'
    return f"<figure>{picture}{below}</figure>"


def link_to_file(name: str, content: str, file: str) -> str:
    """The text `name` (HTML) as a link that saves `content` as `file`."""
    data = base64.b64encode(content.encode()).decode()
    return f'<a download="{html.escape(file)}" href="data:text/plain;base64,{data}">{html.escape(name)}</a>'


def table(head: Sequence[str], rows: Sequence[Sequence[object]], words: Sequence[int] = ()) -> str:
    """A table; the columns in `words` (negative ones count from the end) are text, the others numbers.

    Cells that begin with ``<a `` are HTML (`link_to_file`), all others are escaped.
    """
    texts = {column % len(head) for column in words}
    kinds = [' class="t"' if column in texts else "" for column in range(len(head))]

    def line(tag: str, cells: Sequence[object]) -> str:
        shown = (c if isinstance(c, str) and c.startswith("<a ") else html.escape(cell(c)) for c in cells)
        return "".join(f"<{tag}{kind}>{c}</{tag}>" for c, kind in zip(shown, kinds, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{line("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'


def cell(value: object) -> str:
    """Text of a value: four digits of a number, a dash for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
