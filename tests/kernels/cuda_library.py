"""The library of CUDA kernels for tests: the compiled one where there is a GPU, else its emulation."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

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


@cache
def cuda_library() -> Path:
    """The compiled library where it finds a GPU, else the same sources compiled for the processor."""
    if "NNPKIT_CUDA_LIBRARY" in os.environ or not without_gpu():
        return native.cuda_library_path()
    cmake = find_program("cmake")
    if cmake is None:
        pytest.skip("there is no cmake to compile the emulation of the CUDA kernels with")
    folder = tempfile.mkdtemp(prefix="nnpkit-cuda-emulation-")
    atexit.register(shutil.rmtree, folder, True)
    settings = ["-DNNPKIT_CUDA_EMULATION=ON", f"-DCMAKE_CXX_COMPILER={os.environ.get('CXX', 'g++')}"]
    for step in (["-S", str(SOURCES), "-B", folder, *settings], ["--build", folder, "--parallel", "2"]):
        result = subprocess.run([cmake, *step], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
    return Path(folder, "libnnpkit_cuda.so")
