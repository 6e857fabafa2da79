"""The CUDA kernels of symmetry function models pass the tests of the CPU kernels: on a GPU, or emulated without one."""

from pathlib import Path

import numpy as np
import pytest
from cuda_library import cuda_library
from small_models import cluster, small_model
from test_acsf_kernel import (  # noqa: F401
    test_angular_functions,
    test_atoms_without_neighbours_and_no_atoms,
    test_cutoff_functions,
    test_cutoffs_of_all_lengths,
    test_equal_input_gives_equal_bits,
    test_features_outside_their_range_are_counted,
    test_inner_cutoff,
    test_many_elements,
    test_members_of_a_committee,
    test_pairs_only,
    test_single_precision_is_close,
)

from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError
from nnpkit.md.calculator import NnpkitCalculator


@pytest.fixture
def isa(monkeypatch: pytest.MonkeyPatch) -> str:
    """What `Kernel` calls the place, for the tests above."""
    monkeypatch.setenv("NNPKIT_CUDA_LIBRARY", str(cuda_library()))
    return "cuda:0"


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
