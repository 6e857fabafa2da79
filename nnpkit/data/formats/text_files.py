"""Text files, plain or compressed: reading by their first bytes, writing by their suffix."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from nnpkit.errors import InputError
from nnpkit.files import atomic_write

__all__ = [
    "COMPRESSION_SUFFIXES", "bare_name", "decompressed", "first_line", "open_for_writing", "open_text", "read_text",
    "require_path",
]  # fmt: skip

COMPRESSION_SUFFIXES = (".xz", ".gz", ".bz2")
_NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a]")
_MAGIC: dict[bytes, Any] = {b"\xfd7zXZ\x00": lzma.open, b"\x1f\x8b": gzip.open, b"BZh": bz2.open}


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    """Decode what is no UTF-8, an accent in a comment say, byte for byte; numbers and names are ASCII."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("nnpkit-latin-1", _as_latin_1)


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
    hint = f"did you mean {' or '.join(near)}?" if near else f"nothing in {folder} has a similar name"
    raise InputError("no such file", where=str(path), hint=hint)


@contextmanager
def open_text(path: str | Path) -> Iterator[IO[str]]:
    """The decompressed text of a file; errors of file system, compression and encoding as InputError.

    UTF-8 and UTF-16 with or without their mark, Latin-1; any ends of lines.
    """
    path = require_path(path)
    with _as_input_errors(path):
        with open(path, "rb") as stream:
            head = stream.read(6)
        opener = next((opener for magic, opener in _MAGIC.items() if head.startswith(magic)), open)
        with opener(path, "rb") as raw:
            begin = raw.read(4096)
        encoding = "utf-16" if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        if encoding != "utf-16" and _NOT_TEXT.search(begin):
            raise _no_text(path)
        errors = "nnpkit-latin-1" if encoding == "utf-8-sig" else "strict"
        with opener(path, "rt", encoding=encoding, errors=errors) as text:
            yield text


@contextmanager
def _as_input_errors(path: Path) -> Iterator[None]:
    """What file system, compression and encoding raise within the block, in the user's words."""
    try:
        yield
    except EOFError:
        raise InputError("the compressed file is truncated", where=str(path), hint="copy it again") from None
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"cannot decompress: {error}", where=str(path), hint="copy it again") from None
    except UnicodeError:
        raise _no_text(path) from None
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror or error}", where=str(path)) from None


@contextmanager
def decompressed(path: Path) -> Iterator[Path]:
    """The path itself or, of a compressed file, that of a temporary copy without compression."""
    if not path.is_file():
        yield path
        return
    with open(path, "rb") as stream:
        head = stream.read(6)
    opener = next((opener for magic, opener in _MAGIC.items() if head.startswith(magic)), None)
    if opener is None or path.suffix not in COMPRESSION_SUFFIXES:  # others may be a format of their own
        yield path
        return
    with TemporaryDirectory(prefix="nnpkit-") as folder:
        plain = Path(folder) / bare_name(path)
        with _as_input_errors(path), opener(path, "rb") as source, open(plain, "wb") as target:
            shutil.copyfileobj(source, target)
        yield plain


def _no_text(path: Path) -> InputError:
    return InputError("not a text file", where=str(path), hint="name its format if it is a binary one")


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
