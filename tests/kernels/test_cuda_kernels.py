"""The CUDA kernels pass every test of the CPU kernels: on a GPU, or emulated without one.

The tests of a file ``test_*_kernel.py`` that take the fixture `isa` are those that any place must pass. All of them are
tests of this file, too, where the place is a device.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cuda_library import cuda_library
from small_models import cluster, small_model

from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError
from nnpkit.md.calculator import NnpkitCalculator

NOT_ON_A_DEVICE = {
    "test_expansion_kernel": "this kernel is for training, which takes place on the processor",
    "test_descriptor_kernel": "these kernels are operators of torch for training, which takes place on the processor",
}


def cases_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """Tests of `module` that take the fixture `isa`, by names that tell the module."""
    return {
        f"{module.__name__}_{name.removeprefix('test_')}": function
        for name, function in vars(module).items()
        if name.startswith("test_") and "isa" in inspect.signature(function).parameters
    }


MODULES = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("test_*_kernel.py"))]
for kernels in MODULES:
    if kernels.__name__ not in NOT_ON_A_DEVICE:
        globals().update(cases_of(kernels))
del kernels


@pytest.fixture
def isa(monkeypatch: pytest.MonkeyPatch) -> str:
    """What `Kernel` calls the place, for the tests above."""
    monkeypatch.setenv("NNPKIT_CUDA_LIBRARY", str(cuda_library()))
    return "cuda:0"


def test_no_kernel_is_forgotten() -> None:
    for module in MODULES:
        here = [name for name in globals() if name.startswith(f"{module.__name__}_")]
        assert bool(here) != (module.__name__ in NOT_ON_A_DEVICE), module.__name__


def test_calculator(isa: str, tmp_path: Path) -> None:
    """The ASE calculator on a device gives what it gives on the processor."""
    export_model(small_model(), tmp_path / "model.pt")
    results = []
    for device in ("cpu", isa):
        atoms = cluster().to_atoms()
        atoms.calc = NnpkitCalculator(tmp_path / "model.pt", device=device)
        results.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    for cpu, gpu in zip(*results, strict=True):
        np.testing.assert_allclose(gpu, cpu, atol=1e-11, rtol=1e-11)


def test_calculator_without_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that was asked for is not replaced in silence."""
    export_model(small_model(), tmp_path / "model.pt")
    monkeypatch.setenv("NNPKIT_CUDA_LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(InputError, match=r"cuda:0 cannot evaluate the model.*nnpkit build --cuda"):
        NnpkitCalculator(tmp_path / "model.pt", device="cuda:0")
    with pytest.raises(InputError, match="cuda:0 and so on"):
        NnpkitCalculator(tmp_path / "model.pt", device="gpu")
