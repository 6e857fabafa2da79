"""Binary wheels: what goes into them, who finds the libraries, and what is said if torch does not fit."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nnpkit.install import diagnosis, entry_point
from nnpkit.install.build import TORCH_BESIDE
from nnpkit.install.installed import Torch

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "nnpkitplugin.so",
    "libnnpkit_model.so",
    "libnnpkit_ops.so",
    "libnnpkit.so",
    "nnpkit.h",
    "build.json",
}


def wheel(compiled: Path | None, out: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "NNPKIT_COMPILED"}
    environment |= {"NNPKIT_COMPILED": str(compiled)} if compiled else {}
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_what_a_wheel_holds(tmp_path: Path) -> None:
    """The compiled libraries and a name for one platform; without them, sources for every platform."""
    pytest.importorskip("hatchling")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("no source tree")
    (compiled := tmp_path / "compiled").mkdir()
    for name in NAMES:
        (compiled / name).write_text(name)
    done = wheel(compiled, tmp_path / "binary")
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "binary").iterdir()
    assert re.fullmatch(r"nnpkit-[\d.]+-py3-none-linux_\w+\.whl", file.name)
    listed = zipfile.ZipFile(file).namelist()
    assert {Path(n).name for n in listed if n.startswith("nnpkit/compiled/")} == NAMES
    assert "nnpkit/lammps_plugin/CMakeLists.txt" in listed  # `nnpkit build` remains
    (compiled / "nnpkit.h").unlink()
    done = wheel(compiled, tmp_path / "broken")
    assert done.returncode != 0
    assert "nnpkit.h: run nnpkit build --for-wheel first" in done.stderr
    assert wheel(None, tmp_path / "sources").returncode == 0
    (file,) = (tmp_path / "sources").iterdir()
    assert file.name.endswith("-py3-none-any.whl")
    assert not any("compiled/" in name for name in zipfile.ZipFile(file).namelist())


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Folder of an environment and that of a wheel with a plugin in it."""
    environment, wheels = tmp_path / "environment", tmp_path / "site" / "nnpkit" / "compiled"
    monkeypatch.delenv("NNPKIT_PLUGIN_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "prefix", str(environment))
    for module in (entry_point, diagnosis):
        monkeypatch.setattr(module, "wheel_folder", lambda: str(wheels))
    for name in ("nnpkitplugin.so", "libnnpkit_model.so"):
        wheels.mkdir(parents=True, exist_ok=True)
        (wheels / name).touch()
    return environment / "lib" / "nnpkit", wheels


def test_who_compiles_goes_before_the_wheel(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built, wheels = places
    assert entry_point.plugin_path() == str(wheels)
    assert diagnosis._origin(wheels) == "from the wheel of nnpkit"
    built.mkdir(parents=True)
    (built / "nnpkitplugin.so").touch()
    assert entry_point.plugin_path() == str(built)
    assert diagnosis._origin(built) == "by nnpkit build; it goes before that of the wheel"
    monkeypatch.setenv("NNPKIT_PLUGIN_DIR", str(tmp_path / "chosen"))
    assert entry_point.plugin_path() == str(tmp_path / "chosen")


@pytest.mark.parametrize(
    ("version", "folder", "words"),
    [
        ("2.13.0+cpu", "site/torch", ""),
        ("2.13.0+cu130", "site/torch", ""),
        (
            "2.12.1+cpu",
            "site/torch",
            r"the wheel was compiled for torch 2\.13\.0\+cpu, installed is 2\.12\.1\+cpu",
        ),
        ("2.13.0+cpu", "elsewhere/torch", "wants torch in .*site/torch, it is in .*elsewhere/torch"),
    ],
)
def test_doctor_compares_the_wheel_with_torch(
    places: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    version: str,
    folder: str,
    words: str,
) -> None:
    sources = diagnosis.source_fingerprint(diagnosis.source_folder())
    record = {"torch": "2.13.0+cpu", "torch_folder": TORCH_BESIDE, "cxx11_abi": True, "lammps": "1 Jan 2025"}
    record |= {"wheel": True, "sources_sha256": sources}
    (places[1] / "build.json").write_text(json.dumps(record))
    torch = Torch(tmp_path / folder, version, True, None)
    monkeypatch.setattr(diagnosis.installed, "find_torch", lambda: torch)
    plugin, fits = diagnosis._check_plugin("no lammps")
    assert plugin.found.endswith("from the wheel of nnpkit")
    assert fits.status == ("broken" if words else "ok")
    assert re.search(words, fits.found)
    assert not words or "or install torch 2.13.0+cpu and LAMMPS 1 Jan 2025" in fits.fix


def test_the_plugin_of_a_wheel_compares_releases(tmp_path: Path) -> None:
    """The file that opens libtorch, compiled as for a wheel, with folders of torch of our own beside it."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    (tmp_path / "main.cpp").write_text(
        '#include "model.h"\n#include <cstdio>\n'
        "int main() {\n  try { nnpkit::load_model(std::string(), nnpkit::Placement()); }\n"
        "  catch (const std::exception &e) { puts(e.what()); }\n}\n"
    )
    source = ROOT / "lammps_plugin" / "src"
    macros = ['-DNNPKIT_TORCH_BESIDE="torch"', '-DNNPKIT_TORCH_VERSION="2.13.0+cpu"']
    words = [compiler, "-std=c++17", f"-I{source}", *macros, "main.cpp", source / "model_library.cpp", "-ldl"]
    subprocess.run(words, cwd=tmp_path, check=True)

    def said() -> str:
        return subprocess.run([tmp_path / "a.out"], capture_output=True, text=True, check=True).stdout

    assert re.search(r"compiled against torch 2\.13\.0\+cpu which is not in .*/torch", said())
    (tmp_path / "torch").mkdir()
    for version, expected in (
        ("2.13.0+cu130", r"cannot load libtorch: .*libnnpkit_model\.so"),
        ("2.13.0", r"cannot load libtorch"),
        ("2.13.1+cpu", r"compiled against torch 2\.13\.0\+cpu but torch 2\.13\.1\+cpu is installed now"),
    ):
        (tmp_path / "torch" / "version.py").write_text(f"__version__ = '{version}'\n")
        assert re.search(expected, said()), version


def test_containers_have_the_same_steps() -> None:
    """Apptainer's definition does what the Dockerfile does, which a benchmark runs in a bare root."""
    docker = (ROOT / "containers" / "Dockerfile").read_text().replace("\\\n", " ")
    run = [" ".join(line[4:].split()) for line in docker.splitlines() if line.startswith("RUN ")]
    section = (ROOT / "containers" / "nnpkit.def").read_text().split("%post")[1].split("%environment")[0]
    post = [" ".join(line.split()) for line in section.splitlines() if line.strip()]
    assert [line for line in post if not line.startswith(("cd ", "export "))] == run


def test_the_conda_recipe_asks_for_what_the_package_asks_for() -> None:
    """Names and versions of pyproject.toml, torch and matplotlib by conda's names."""
    text = (ROOT / "containers" / "conda" / "meta.yaml").read_text()
    wanted = (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("]")[0]
    run = text.split("  run:\n")[1].split("\ntest:")[0]
    have = dict(line.strip(" -").partition(" ")[::2] for line in run.splitlines() if line.strip())
    for name, version in re.findall(r'"([\w-]+)(>=[\d.]+)"', wanted):
        conda = {"torch": "pytorch", "matplotlib": "matplotlib-base"}.get(name, name)
        assert conda in have, name
        assert name == "torch" or have[conda] == version, name
    from nnpkit import __version__

    assert f"version: {__version__}\n" in text
