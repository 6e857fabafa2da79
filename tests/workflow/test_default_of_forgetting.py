"""What the filter of a training forgets, if the configuration leaves it open."""

from __future__ import annotations

import pytest

from nnpkit.config.schema_optimizer import Ekf
from nnpkit.workflow.update_makers import kalman_settings


@pytest.mark.parametrize(
    ("given", "n_blocks", "forget", "limit"),
    [
        ({}, 1, "all", 1e4),
        ({}, 2, "observed", None),
        ({"forgetting": 1.0}, 2, "all", None),
        ({"forget": "all"}, 2, "all", 1e4),
        ({"forget": "observed"}, 1, "observed", None),
        ({"covariance_limit": 3.0}, 1, "all", 3.0),
        ({"covariance_limit": None}, 1, "all", None),
        ({"dtype": "float32", "forgetting": 0.98}, 1, "all", None),
        ({"preset": "rlekf"}, 3, "all", None),
        ({"learning_rate": 10.0}, 1, "all", None),
    ],
)
def test_the_number_of_blocks_and_the_noise_decide(given, n_blocks, forget, limit):
    settings = kalman_settings(Ekf(**given), n_blocks)
    assert (settings.forget, settings.covariance_limit) == (forget, limit)
