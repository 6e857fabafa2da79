"""The CUDA kernels compile without a warning, and what is missing is said in words."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from cuda_library import SOURCES, without_gpu
from test_acsf_kernel import arguments, check, kernel_of, make_model

from nnpkit.errors import InputError
from nnpkit.install import diagnosis, installed
from nnpkit.install.build_cuda import build_cuda
from nnpkit.install.entry_point import CUDA_LIBRARY, CUDA_RECORD
from nnpkit.kernels import native
from nnpkit.kernels.native import NoKernelError


def test_the_kernels_compile(tmp_path: Path) -> None:
    """Up to PTX, not optimised: warnings come before, and what follows depends on the GPU and takes far longer."""
    try:
        nvcc = installed.find_nvcc().path
    except InputError as problem:
        pytest.skip(str(problem))
    sources = sorted(SOURCES.rglob("*.cu"))
    assert len(sources) > 3
    flags = [
        "-std=c++17",
        "-arch=sm_80",
        "--expt-relaxed-constexpr",
        "-Xcicc",
        "-O0",
    ]
    for folder in (SOURCES, SOURCES.parent / "csrc"):
        flags += [f"-I{path}" for path in (folder, *folder.iterdir()) if path.is_dir()]
    for source in sources:
        result = subprocess.run(
            [nvcc, *flags, "-ptx", source, "-o", tmp_path / "out.ptx"],
            env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert "warning" not in result.stderr
        assert ".entry" in (tmp_path / "out.ptx").read_text() or source.stem == "library"


def test_parity_on_a_gpu() -> None:
    """The compiled library itself; everything else runs there too where there is one."""
    if reason := without_gpu():
        pytest.skip(f"the CUDA kernels cannot run here: {reason}")
    for kernel in (kernel_of(make_model(), isa=f"cuda:{n}") for n in range(native.cuda_devices())):
        check(make_model(), kernel, arguments(make_model()))


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNPKIT_CUDA_LIBRARY", str(tmp_path / CUDA_LIBRARY))
    with pytest.raises(NoKernelError, match="is not compiled: run nnpkit build --cuda"):
        kernel_of(make_model(), isa="cuda:0")


def test_without_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNPKIT_PLUGIN_DIR", str(tmp_path))
    monkeypatch.setenv("CUDACXX", "no-such-nvcc")
    with pytest.raises(InputError, match=r"no CUDA compiler no-such-nvcc.*cuda-downloads"):
        build_cuda()
    with pytest.raises(InputError, match=r"architectures 'sm_80'.*80;90"):
        build_cuda(architectures="sm_80")


def test_the_doctor_knows_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNPKIT_PLUGIN_DIR", str(tmp_path))
    assert "not compiled" in diagnosis._check_cuda_kernels().found
    (tmp_path / CUDA_LIBRARY).write_bytes(b"")
    (tmp_path / CUDA_RECORD).write_text(json.dumps({"architectures": "80;90", "sources_sha256": ""}))
    found = diagnosis._check_cuda_kernels()
    assert found.status == diagnosis.WARNING
    assert "80;90, from other sources" in found.found
