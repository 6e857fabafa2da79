"""The library of CUDA kernels for tests: the compiled one where there is a GPU, else its emulation."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from nnpkit.install.build_cuda import cuda_fingerprint
from nnpkit.install.installed import find_program
from nnpkit.kernels import native
from nnpkit.kernels.native import NoKernelError

SOURCES = Path(native.__file__).resolve().parent / "cuda"


def without_gpu() -> str:
    """Why no GPU can be used here, empty if one can."""
    try:
        native.cuda_devices()
    except NoKernelError as reason:
        return str(reason)
    return ""


def emulation_folder(settings: list[str]) -> Path:
    """Where the emulation of these sources is kept: what compiled it once serves all processes and later runs."""
    words = hashlib.sha256("\n".join([cuda_fingerprint(), platform.machine(), *settings]).encode())
    return Path(__file__).resolve().parents[2] / "build" / "cuda-emulation" / words.hexdigest()[:16]


@cache
def cuda_library() -> Path:
    """The compiled library where it finds a GPU, else the same sources compiled for the processor."""
    if "NNPKIT_CUDA_LIBRARY" in os.environ or not without_gpu():
        return native.cuda_library_path()
    cmake = find_program("cmake")
    if cmake is None:
        pytest.skip("there is no cmake to compile the emulation of the CUDA kernels with")
    settings = [
        "-DNNPKIT_CUDA_EMULATION=ON",
        f"-DCMAKE_CXX_COMPILER={os.environ.get('CXX', 'g++')}",
        "-DCMAKE_CXX_FLAGS_RELEASE=-O1",  # the tests are over sooner than better code would be compiled
    ]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # no sanitizers
    folder = emulation_folder(settings)
    library = folder / "libnnpkit_cuda.so"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other process compiles: no need to do it twice
        if not library.exists():
            for old in folder.parent.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                for step in (
                    ["-S", str(SOURCES), "-B", scratch, *settings],
                    ["--build", scratch, "--parallel", "2"],
                ):
                    result = subprocess.run(
                        [cmake, *step], env=environment, capture_output=True, text=True, check=False
                    )
                    assert result.returncode == 0, result.stdout + result.stderr
                folder.mkdir()
                shutil.move(Path(scratch, library.name), library)
    return library
