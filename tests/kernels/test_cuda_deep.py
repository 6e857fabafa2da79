"""The CUDA kernels of Deep Potentials pass the tests of the CPU kernels: on a GPU, or emulated without one."""

import pytest
from cuda_library import cuda_library
from test_deep_kernel import (  # noqa: F401
    test_any_number_of_atoms,
    test_beyond_the_table_the_network_itself_is_evaluated,
    test_committee,
    test_cutoff_functions,
    test_energies_and_gradients,
    test_extrapolation_is_counted,
    test_no_neighbours_within_the_cutoff,
    test_results_are_the_same_bits_every_time,
)


@pytest.fixture
def isa(monkeypatch: pytest.MonkeyPatch) -> str:
    """What `Kernel` calls the place, for the tests above."""
    monkeypatch.setenv("NNPKIT_CUDA_LIBRARY", str(cuda_library()))
    return "cuda:0"
