"""What a processor without AVX2 would meet in the compiled libraries: nothing that it cannot execute."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nnpkit.install.entry_point import plugin_path

LIBRARIES = ("libnnpkit_ops.so", "libnnpkit_model.so", "libnnpkit.so", "nnpkitplugin.so")
NEW = re.compile(r"%[yz]mm\d|\tv[a-z]+\d*[a-z]*\s+.*%xmm")  # AVX and later; SSE's names do not begin with a v
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
# compiled for one instruction set and called after the processor was asked: by namespace, or by the loader
GUARDED = re.compile(r"avx2|avx512|\.fma$|\.arch_")


@pytest.mark.parametrize("name", LIBRARIES)
def test_new_instructions_are_only_where_the_processor_was_asked(name: str) -> None:
    """A template in a source for AVX-512 would be taken by the linker for every processor."""
    disassembler, library = shutil.which("objdump"), Path(plugin_path(), name)
    if disassembler is None:
        pytest.skip("objdump is not installed (Debian: apt install binutils)")
    if not library.exists():
        pytest.skip(f"{name} is not compiled")
    words = [disassembler, "-d", "--no-show-raw-insn", str(library)]
    functions: dict[str, int] = {}
    current = ""
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if found := FUNCTION.match(line):
                current = found[1]
            elif NEW.search(line):
                functions[current] = functions.get(current, 0) + 1
    assert process.returncode == 0
    assert {f: n for f, n in functions.items() if not GUARDED.search(f)} == {}
    if name != "nnpkitplugin.so":
        assert any("avx2" in f for f in functions)  # the search finds what is there
