"""Text files, plain or compressed: reading by their first bytes, writing by their suffix."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from nnpkit.errors import InputError
from nnpkit.files import atomic_write

__all__ = [
    "COMPRESSION_SUFFIXES", "bare_name", "first_line", "open_for_writing", "open_text", "read_text",
    "require_path",
]  # fmt: skip

COMPRESSION_SUFFIXES = (".xz", ".gz", ".bz2")
_MAGIC: dict[bytes, Any] = {b"\xfd7zXZ\x00": lzma.open, b"\x1f\x8b": gzip.open, b"BZh": bz2.open}


def bare_name(path: str | Path) -> str:
    """Name of a file without folder and without the suffix of its compression."""
    name = Path(path).name
    for suffix in COMPRESSION_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def require_path(path: str | Path) -> Path:
    """The path if something is there; else InputError with the nearest existing names of its folder."""
    path = Path(path)
    if path.exists():
        return path
    folder = path.parent
    if not folder.is_dir():
        raise InputError("no such file", where=str(path), hint=f"there is no folder {folder} either")
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    near = get_close_matches(path.name, names, n=3, cutoff=0.5)
    if not near:
        near = [name for name in names if bare_name(name).split(".")[0] == bare_name(path).split(".")[0]][:3]
    hint = f"did you mean {' or '.join(near)}?" if near else f"{folder} has nothing with a similar name"
    raise InputError("no such file", where=str(path), hint=hint)


@contextmanager
def open_text(path: str | Path) -> Iterator[IO[str]]:
    """The decompressed text of a file; errors of file system, compression and encoding as InputError."""
    path = require_path(path)
    try:
        with open(path, "rb") as stream:
            head = stream.read(6)
        opener = next((opener for magic, opener in _MAGIC.items() if head.startswith(magic)), open)
        with opener(path, "rt", encoding="utf-8") as text:
            yield text
    except EOFError:
        raise InputError("the compressed file is truncated", where=str(path), hint="copy it again") from None
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"cannot decompress: {error}", where=str(path), hint="copy it again") from None
    except UnicodeDecodeError:
        raise InputError(
            "not a text file", where=str(path), hint="name its format if it is a binary one"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror or error}", where=str(path)) from None


def read_text(path: str | Path) -> str:
    """Decompressed content of a text file that is not empty.

    Raises
    ------
    InputError
        If it is missing, empty, not text, or truncated within its compression.
    """
    with open_text(path) as stream:
        text = stream.read()
    if not text.strip():
        raise InputError("the file is empty", where=str(path), expected="at least one frame")
    return text


def first_line(path: str | Path, limit: int = 4096) -> str:
    """First line with content among the first `limit` characters, '' for anything that is not text."""
    try:
        with open_text(path) as stream:
            head = stream.read(limit)
    except InputError:
        return ""
    return next((line.strip() for line in head.splitlines() if line.strip()), "")


@contextmanager
def open_for_writing(path: str | Path) -> Iterator[IO[str]]:
    """Text stream to a file that appears, compressed as its suffix says, only once it is complete."""
    suffix = Path(path).suffix
    with atomic_write(path, "wb") as raw:
        if suffix == ".xz":
            compressed: Any = lzma.LZMAFile(raw, "w")  # noqa: SIM115
        elif suffix == ".gz":
            compressed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)
        elif suffix == ".bz2":
            compressed = bz2.BZ2File(raw, "w")
        else:
            compressed = raw
        text = TextIOWrapper(compressed, encoding="utf-8", newline="\n")
        yield text
        text.flush()
        text.detach()
        if compressed is not raw:
            compressed.close()
