"""The seal of a model file: a checksum over all of it, which every loader verifies before it reads anything else.

Libraries that open archives trust what they find in them. A file that was cut off, damaged on the way or edited must
not get that far, whatever checksums it has inside.
"""

from __future__ import annotations

import hashlib
import struct

from nnpkit.errors import InputError

__all__ = ["check_seal", "seal"]

_WORD = b"nnpkit-sha256:"
_LENGTH = len(_WORD) + 64  # with the digest in hexadecimal
_END_OF_ARCHIVE = b"PK\x05\x06"  # begins the last 22 bytes of a zip archive without a comment


def seal(archive: bytes) -> bytes:
    """`archive`, a zip file without a comment, with its SHA-256 as the comment; it can be opened as before.

    Raises
    ------
    ValueError
        If it is no such file.
    """
    if archive[-22:-18] != _END_OF_ARCHIVE or archive[-2:] != b"\0\0":
        raise ValueError("no zip archive without a comment")
    content = archive[:-2] + struct.pack("<H", _LENGTH)
    return content + _WORD + hashlib.sha256(content).hexdigest().encode()


def check_seal(content: bytes, where: str) -> None:
    """Raise an error unless `content` is what `seal` returned.

    Raises
    ------
    InputError
        If there is no seal, because the file is something else or its end is missing, or if it is broken.
    """
    body, end = content[:-_LENGTH], content[-_LENGTH:]
    if not end.startswith(_WORD):
        raise InputError(
            "no model file, or a truncated one: it does not end with a checksum", where=where,
            expected="a file written by nnpkit train or nnpkit export", hint="copy or export it again",
        )  # fmt: skip
    if end[len(_WORD) :] != hashlib.sha256(body).hexdigest().encode():
        raise InputError(
            "the file is damaged or was altered: its checksum is wrong", where=where,
            hint="copy or export it again",
        )  # fmt: skip
