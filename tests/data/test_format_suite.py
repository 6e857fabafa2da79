"""Formats of ours pass the tests that those of other packages inherit."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_tools import water

from nnpkit.data.formats.contract import DataFormat
from nnpkit.data.formats.registered import FORMATS
from nnpkit.testing.format_suite import FormatSuite
from nnpkit.units import ANGSTROM_EV


class TestOurs(FormatSuite):
    """Formats of single files that are written, too."""

    @pytest.fixture(params=["extxyz", "runner"])
    def format(self, request: pytest.FixtureRequest) -> DataFormat:
        return FORMATS.get(request.param)

    @pytest.fixture
    def example(self, tmp_path: Path, request: pytest.FixtureRequest, format: DataFormat) -> Path:
        name = {"extxyz": "a.extxyz", "runner": "input.data"}
        path = tmp_path / name[request.node.callspec.params["format"]]
        assert format.write is not None
        format.write(path, [water(), water()], ANGSTROM_EV)
        return path
