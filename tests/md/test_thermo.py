"""What LAMMPS prints, read as it comes."""

from __future__ import annotations

import numpy as np
import pytest

from nnpkit.errors import InputError
from nnpkit.md.thermo import Thermo, ThermoReader, read_log

LOG = """\
LAMMPS (22 Jul 2025)
Setting up cg style minimization ...
   Step         PotEng          Fmax
         0  -1.5            0.25
         3  -1.625          0.125
Loop time of 0.5 on 2 procs for 3 steps with 4 atoms

WARNING: Communication cutoff is 0.0 (src/comm.cpp:730)
   Step          Time           Temp          PotEng     v_mine
         0   0              300             -1.5       7
WARNING: Something about step 5 (src/pair.cpp:1)
WARNING: Something about step 5 (src/pair.cpp:1)
         5   0.0025         301.5           -1.25      7
Fix halt condition for fix-id guard_temperature met on step 10 with value 1
        10   0.005          nan             -1        7
Loop time of 2.5 on 2 procs for 10 steps with 4 atoms
ERROR: Lost atoms: original 4 current 3 (src/thermo.cpp:502)
"""


@pytest.fixture
def reader(tmp_path) -> ThermoReader:
    (tmp_path / "log.lammps").write_text(LOG)
    return read_log(tmp_path / "log.lammps")


def test_tables_and_loops(reader: ThermoReader) -> None:
    first, last = reader.thermo(0), reader.thermo()
    assert list(first.columns) == ["step", "potential_energy_eV", "max_force_eV_A"]
    assert first["potential_energy_eV"].tolist() == [-1.5, -1.625]
    assert list(last.columns) == ["step", "time_ps", "temperature_K", "potential_energy_eV", "v_mine"]
    assert last["step"].tolist() == [0, 5, 10]
    assert reader.loops == [(0.5, 3, 4), (2.5, 10, 4)]


def test_messages(reader: ThermoReader) -> None:
    assert reader.warnings == [
        "Communication cutoff is 0.0 (src/comm.cpp:730)", "Something about step 5 (src/pair.cpp:1)"
    ]  # fmt: skip
    assert reader.errors == ["Lost atoms: original 4 current 3 (src/thermo.cpp:502)"]
    assert reader.halted == "guard_temperature"
    assert not reader.finite


def test_rows_as_they_come() -> None:
    reader = ThermoReader()
    rows = [row for line in LOG.splitlines() if (row := reader.feed(line)) is not None]
    assert len(rows) == 5
    assert rows[1] == {"step": 3, "potential_energy_eV": -1.625, "max_force_eV_A": 0.125}


def test_nothing_printed() -> None:
    reader = ThermoReader()
    assert len(reader.thermo()) == 0
    assert reader.finite


def test_csv_keeps_every_digit(tmp_path) -> None:
    thermo = Thermo({"step": np.arange(3.0), "a_K": np.array([-133344.666693123, 1e-9, 1 / 8])})
    thermo.write_csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().startswith("step,a_K\n0,-133344.666693123\n")
    again = Thermo.read_csv(tmp_path / "t.csv")
    assert all(np.array_equal(again[name], thermo[name]) for name in thermo.columns)


def test_errors(tmp_path) -> None:
    with pytest.raises(InputError, match=r"nowhere.*no such LAMMPS log"):
        read_log(tmp_path / "nowhere")
    (tmp_path / "t.csv").write_text("a,b\n1,x\n")
    with pytest.raises(InputError, match=r"t\.csv.*not a table"):
        Thermo.read_csv(tmp_path / "t.csv")
