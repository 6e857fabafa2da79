"""The CUDA kernels of symmetry function models pass the tests of the CPU kernels: on a GPU, or emulated without one."""

import pytest
from cuda_library import cuda_library
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


@pytest.fixture
def isa(monkeypatch: pytest.MonkeyPatch) -> str:
    """What `Kernel` calls the place, for the tests above."""
    monkeypatch.setenv("NNPKIT_CUDA_LIBRARY", str(cuda_library()))
    return "cuda:0"
