"""Files of any format into a store: one pass, some processes, nothing held whole, and no half of a store.

The shards are written into a folder ``.NAME.building`` beside the store, each with a record of what is in it. It takes
the name of the store when everything is there. A command that was interrupted goes on with the pieces that have no
record yet, if the sources and what was asked for are still the same.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit._version import __version__
from nnpkit.data.dataset import elements_of, fit_reference_energies
from nnpkit.data.formats.piecewise import pieces
from nnpkit.data.formats.reading import detect_format, parse_frames, resolve_format
from nnpkit.data.formats.text_files import require_path
from nnpkit.data.labels import choose_names
from nnpkit.data.notes import say
from nnpkit.data.statistics import DataSums
from nnpkit.data.store.conversion import Job, convert_piece, read_record
from nnpkit.data.store.frame_facts import FACTS, findings_of, sample_of
from nnpkit.data.store.stored_frames import INDEX, VERSION, DataStore, is_store, sealed_index
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.lock import FolderLock

__all__ = ["BuildSettings", "build_store", "changed_sources"]

_FITTED = 20_000  # frames to which reference energies are fitted
_PLAN = "plan.json"


@dataclass(frozen=True)
class BuildSettings:
    """What decides the content of a store beside its sources.

    Attributes
    ----------
    format, units, keys, frames
        As of `nnpkit.data.formats.reading.read`; frames count from the first one.
    dtype : str
        Of positions and forces: ``float64`` or ``float32``.
    """

    format: str | None = None
    units: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    frames: str | None = None
    dtype: str = "float64"


def build_store(
    sources: Sequence[str | Path],
    destination: str | Path,
    settings: BuildSettings = BuildSettings(),
    processes: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> DataStore:
    """Convert files into a store.

    Parameters
    ----------
    sources : sequence of path
        Files and folders of reference data.
    destination : path
        Folder of the store.
    settings : BuildSettings
        How they are read and kept.
    processes : int
        How many convert at a time.
    overwrite : bool
        Replace a store of that name, and begin anew whatever was interrupted.
    progress : callable, optional
        Called with the frames that have been converted, after each piece.

    Raises
    ------
    InputError
        For sources that cannot be used or change meanwhile, and a disk that is full; what was converted is kept.
    """
    destination = Path(destination)
    _require_free(destination, overwrite)
    wanted = _selection(settings.frames)
    if settings.dtype not in ("float64", "float32"):
        raise InputError(f"unknown precision {settings.dtype!r}", expected="float64 or float32")
    work = destination.with_name(f".{destination.name}.building")
    lock = FolderLock(work / "lock")
    lock.require("another process builds this store", "wait for it")
    try:
        if overwrite:
            _empty(work)
        plan: dict[str, Any] = {
            "version": VERSION,
            "settings": asdict(settings),
            "sources": [_state(source) for source in sources],
        }
        _keep_to(plan, work)
        records = []
        for number, source in enumerate(plan["sources"]):
            jobs = _jobs(Path(source["path"]), settings, wanted, work / f"{number:04d}")
            records += _convert(jobs, Path(source["path"]), settings, processes, progress)
            if _state(source["path"]) != source:
                _empty(work)
                raise InputError(
                    "the file changed while it was converted", where=source["path"], hint="convert it again"
                )
        index = _index(records, work, plan)
        with atomic_write(work / INDEX) as stream:
            json.dump(index, stream, indent=1)
        _take_place(work, destination)
    finally:
        lock.release()
    return DataStore(destination)


def changed_sources(store: DataStore) -> list[str]:
    """Files from which a store was made that are not there any more, or have another size or time."""
    return [source["path"] for source in store.manifest["sources"] if not _is_as_it_was(source)]


def _is_as_it_was(source: Mapping[str, Any]) -> bool:
    try:
        return bool(_state(source["path"]) == source)
    except InputError:
        return False


def _require_free(destination: Path, overwrite: bool) -> None:
    if destination.is_symlink():
        raise InputError(
            "a link, which a finished store cannot take the place of", where=str(destination),
            hint=f"name the folder itself: {os.path.realpath(destination)}",
        )  # fmt: skip
    if not destination.exists():
        return
    if not is_store(destination):
        raise InputError("exists and is no data store", where=str(destination), hint="choose another name")
    if not overwrite:
        raise InputError(
            "the data store exists",
            where=str(destination),
            hint="give --overwrite to replace it, or another name",
        )


def _selection(frames: str | None) -> tuple[int, int | None, int]:
    chosen = parse_frames(frames)
    start, stop, step = chosen.start or 0, chosen.stop, chosen.step or 1
    if start < 0 or (stop is not None and stop < 0) or step < 1:
        raise InputError(f"frames {frames} count from the end", expected="frames counted from the first one")
    return start, stop, step


def _state(source: str | Path) -> dict[str, Any]:
    """Path, size and time of a file, or of all files in a folder."""
    path = require_path(source)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return {
        "path": str(path),
        "files": len(files),
        "bytes": sum(stat.st_size for stat in stats),
        "time": max((stat.st_mtime_ns for stat in stats), default=0),
    }


def _empty(work: Path) -> None:
    """Remove all but the lock."""
    for path in work.iterdir():
        if path.name != "lock":
            path.unlink()


def _keep_to(plan: dict[str, Any], work: Path) -> None:
    """Write down what is built, or refuse to go on with something else."""
    path = work / _PLAN
    if not path.exists():
        _empty(work)
        with atomic_write(path) as stream:
            json.dump(plan, stream)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(
            "the plan of an interrupted conversion is damaged", where=str(path), hint="give --overwrite"
        ) from None
    if before == json.loads(json.dumps(plan)):
        return
    earlier = {source["path"]: source for source in before.get("sources", [])}
    changed = [s["path"] for s in plan["sources"] if s["path"] in earlier and s != earlier[s["path"]]]
    what = f"{changed[0]} changed since then" if changed else "other sources or settings were asked for then"
    raise InputError(
        f"an interrupted conversion cannot go on: {what}",
        where=str(work),
        hint="give --overwrite to begin anew",
    )


def _jobs(
    source: Path, settings: BuildSettings, wanted: tuple[int, int | None, int], stem: Path
) -> Iterator[Job]:
    """Jobs of a source, as its pieces are read; `stem` is the beginning of the names of the shards."""
    known = resolve_format(settings.format) if settings.format else detect_format(source)
    counted = 0
    for number, piece in enumerate(pieces(source, known)):
        position = piece.first if piece.stop is None else counted
        counted += 0 if piece.stop is None else piece.stop - piece.first
        if wanted[1] is not None and position >= wanted[1]:
            return
        yield Job(
            str(source), known, piece, position, wanted, settings.units, dict(settings.keys) or None, None,
            settings.dtype, f"{stem}-{number:06d}.safetensors",
        )  # fmt: skip


def _convert(
    jobs: Iterator[Job],
    source: Path,
    settings: BuildSettings,
    processes: int,
    progress: Callable[[int], None] | None,
) -> list[dict[str, Any]]:
    """Records of all jobs of a source, in their order; its notes are said.

    A process that sees some frames only looks for labels under the names that these have. If the names of the whole
    file, which are known at its end, are others, such pieces are converted once more.
    """
    found = _run(jobs, processes, progress)
    frames = sum(record["frames"] for record in found.values())
    if not frames:
        raise InputError("no frame in this file, or none that is selected", where=str(source))
    keys = dict(settings.keys) or None
    everything = sorted({tuple(names) for record in found.values() for names in record["seen"]})
    names = choose_names(everything, keys, str(source))
    again = [
        replace(job, names=names)
        for job in _jobs_again(found, source, settings)
        if choose_names(found[job.target]["seen"], keys, str(source)) != names
    ] if len(everything) > 1 else []  # fmt: skip
    found |= _run(iter(again), processes, None, afresh=True)
    for label, key in settings.keys.items():
        having = sum(record["having"].get(label, 0) for record in found.values())
        if not having:
            raise InputError(f"no frame has {key!r}", where=str(source), expected=f"it to be the {label}")
        if having < frames:
            say(str(source), f"no {key!r} to be the {label}", frames - having, f"{source}#?")
    notes: dict[str, list[Any]] = {}
    for record in found.values():
        for text, (number, first) in record["notes"].items():
            notes.setdefault(text, [0, first])[0] += number
    for text, (number, first) in notes.items():
        say(str(source), text, number, first)
    return list(found.values())


def _jobs_again(found: Mapping[str, Any], source: Path, settings: BuildSettings) -> Iterator[Job]:
    """The jobs of a source once more, for those that have to be done again."""
    stem = next(iter(found)).rpartition("-")[0]
    return _jobs(source, settings, _selection(settings.frames), Path(stem))


def _run(
    jobs: Iterator[Job], processes: int, progress: Callable[[int], None] | None, afresh: bool = False
) -> dict[str, dict[str, Any]]:
    """Records of jobs by their target, in their order; those that are there are not made again unless `afresh`."""
    records: dict[str, dict[str, Any] | None] = {}
    pool = None
    running: dict[Future[dict[str, Any]], str] = {}

    def finish(target: str, record: dict[str, Any]) -> None:
        records[target] = record
        if progress is not None:
            progress(record["frames"])

    try:
        for job in jobs:
            record = None if afresh else read_record(Path(job.target))
            records[job.target] = record
            if record is not None or processes < 2:
                finish(job.target, record or convert_piece(job))
                continue
            if pool is None:
                # a process with the threads of torch must not be forked, but starting anew takes seconds
                method = "spawn" if "torch" in sys.modules or threading.active_count() > 1 else "fork"
                pool = ProcessPoolExecutor(processes, multiprocessing.get_context(method))
            running[pool.submit(convert_piece, job)] = job.target
            while len(running) >= 2 * processes:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    finish(running.pop(future), future.result())
        for future in list(running):
            finish(running[future], future.result())
    except BrokenProcessPool:
        raise InputError(
            "a process that converts frames was killed", hint="give the same command again: it goes on where it was; "
            "if memory ran out, with fewer --processes",
        ) from None  # fmt: skip
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    return {target: record for target, record in records.items() if record is not None}


def _index(records: Sequence[Mapping[str, Any]], work: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Content of the index, with what all shards together say."""
    sums = DataSums()
    for record in records:
        if record["frames"]:
            sums.merge(DataSums.from_json(record["sums"]))
    shards = [
        {k: r[k] for k in ("file", "frames", "atoms", "bytes", "sha256")} for r in records if r["frames"]
    ]
    index = {
        "nnpkit": __version__,
        "settings": plan["settings"],
        "sources": plan["sources"],
        "shards": shards,
    }
    with atomic_write(work / INDEX) as stream:
        json.dump(sealed_index(index), stream)
    store = DataStore(work)
    some = [store[int(i)] for i in sample_of(len(store), _FITTED)]
    elements, labelled = sorted(sums.elements), [s for s in some if s.energy is not None]
    energies = fit_reference_energies(labelled, elements_of(some)) if labelled else {}
    facts = {name: store.columns(name) for name in FACTS}
    findings, extreme = findings_of(facts, _residuals(store, energies), store.__getitem__)
    return sealed_index(index | {
        "statistics": sums.summary(), "elements": elements, "reference_energies": energies,
        "suspicious": [list(finding) for finding in findings], "extreme": extreme,
    })  # fmt: skip


def _residuals(store: DataStore, energies: Mapping[str, float]) -> np.ndarray:
    """Energy less that of the elements, eV/atom, of each frame (F,); not a number where one is not known."""
    from ase.data import atomic_numbers

    of_number = np.full(256, np.nan)
    for element, energy in energies.items():
        of_number[atomic_numbers[element]] = energy
    parts = []
    for shard in store.each_shard():
        columns = shard.columns
        sizes = np.diff(columns["offsets"])
        fitted = np.add.reduceat(of_number[columns["numbers"]], columns["offsets"][:-1])
        labels = np.where(columns["has"] & 1, columns.get("energy", np.full(len(sizes), np.nan)), np.nan)
        parts.append((labels - fitted) / sizes)
    return np.concatenate(parts)


def _take_place(work: Path, destination: Path) -> None:
    """Give the finished folder its name; what had it before is removed."""
    for path in work.iterdir():
        if path.name == _PLAN or (path.suffix == ".json" and path.name != INDEX):
            path.unlink()
    old = destination.with_name(f".{destination.name}.old")
    if destination.exists():
        shutil.rmtree(old, ignore_errors=True)  # what a process that was killed here has left
        os.replace(destination, old)
    (work / "lock").unlink(missing_ok=True)
    os.replace(work, destination)
    shutil.rmtree(old, ignore_errors=True)
