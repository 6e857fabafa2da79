"""The loop: train, explore, select, label, and again.

Every step is a function of files that earlier steps left, and leaves files that appear complete or not at all.
The database notes which steps are done; a driver that comes after a killed one walks through the others again and
finds in their folders what was done already.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.active.executor import Executor, ExecutorError
from nnpkit.active.explore_worker import read_candidates
from nnpkit.active.explorers.runs import prepare_run, strained
from nnpkit.active.labellers.reference_calculation import EXPECTED_ENERGY
from nnpkit.active.labelling_tasks import Labeller
from nnpkit.active.programs import python
from nnpkit.active.project import (
    Folders,
    Project,
    read_all,
    training_yaml,
    write_first_data,
    write_new_data,
)
from nnpkit.active.selection import Bounds, count_verdicts, learn_bounds, select
from nnpkit.active.store import Store
from nnpkit.active.task import outcome, prepare_task
from nnpkit.data.dataset import structure_sha256
from nnpkit.data.formats.extxyz import write_extxyz
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError, NnpkitError
from nnpkit.files import atomic_write

__all__ = ["Loop"]

_MAY_CHANGE = {"execution", "stop", "exploration", "selection", "output", "warm_epochs"}


class Loop:
    """Drives a project.

    Parameters
    ----------
    project : Project
        What to do.
    say : callable
        Gets a line for every thing that happens.
    stop : callable
        Asked often whether to stop.
    """

    def __init__(self, project: Project, say: Callable[[str], None], stop: Callable[[], bool]) -> None:
        self.project, self.say = project, say
        self.folders = Folders(project.folder)
        self.store = Store(project.folder, create=True)
        self.store.drive()
        try:
            self._require_same_settings()
            self.labeller = Labeller(project.labelling, project.folder)
        except BaseException:
            self.store.lock.release()
            raise
        self.stop_file = project.folder / "stop"
        self.stop_file.unlink(missing_ok=True)
        self.executor = Executor(project.execution, project.folder, lambda: stop() or self.stop_file.exists())
        self.began = time.time()

    def _require_same_settings(self) -> None:
        """Refuse a changed YAML where the change would spoil what there is; note other changes."""
        now, then = json.loads(json.dumps(dict(self.project.identity))), self.store.fact("settings")
        if then is None or then == now:
            self.store.note("settings", now)
            return
        changed = sorted(key for key in {*now, *then} if now.get(key) != then.get(key))
        if refused := [key for key in changed if key not in _MAY_CHANGE]:
            key = refused[0]
            raise InputError(
                f"{key} is not what it was when the project began", where=str(self.project.folder),
                hint=f"restore it, or begin a new project with another output (then: {_short(then.get(key))}, now: "
                f"{_short(now.get(key))})",
            )  # fmt: skip
        changes = self.store.fact("changes") or []
        self.store.note("changes", [*changes, {"time": time.time(), "changed": changed, "before": then}])
        self.store.note("settings", now)
        self.say(f"settings changed from here on: {', '.join(changed)}")

    # ---- the loop

    def run(self) -> str:
        """Go on until the loop ends or is stopped; why it ended."""
        self.store.log_session(self.began)
        try:
            with self.executor:
                self._step(0, "begin", self._begin)
                number = 0
                while True:
                    self._step(number, "train", self._train)
                    if reason := self._enough(number):
                        self.store.note("ended", reason)
                        self.say(f"ended: {reason}")
                        return reason
                    for name, function in (
                        ("explore", self._explore),
                        ("select", self._select),
                        ("label", self._label),
                    ):
                        self._step(number, name, function)
                    number += 1
        finally:
            self.store.log_session(self.began, end=time.time())
            self.store.lock.release()

    def _step(self, number: int, name: str, function: Callable[[int], dict[str, Any]]) -> None:
        if self.store.step(number, name) is not None:
            return
        self.store.begin_step(number, name)
        detail = function(number)
        self.store.end_step(number, name, detail)
        words = ", ".join(
            f"{key} {_short(value)}" for key, value in detail.items() if not isinstance(value, list | dict)
        )
        self.say(f"round {number}: {name}: {words or 'done'}")

    def _run_tasks(self, number: int, kind: str, folders: list[Path]) -> dict[Path, dict[str, Any]]:
        """Run tasks; outcome of each. A task that failed in an earlier session is tried again."""
        results: dict[Path, dict[str, Any]] = {}
        for folder in folders:
            result = outcome(folder)
            if result is not None and result["code"] != 0:
                (folder / "done.json").rename(folder / f"failed-{int(result['time'])}.json")

        def done(folder: Path, result: dict[str, Any]) -> None:
            results[folder] = result
            self.store.record(
                "runs", task=str(folder.relative_to(self.project.folder)), round=number, kind=kind,
                state="done" if result["code"] == 0 else "failed", seconds=result["seconds"],
                cpu_seconds=result["cpu_seconds"], host=result["host"], reason=result["reason"], time=result["time"],
            )  # fmt: skip

        self.executor.run(folders, done)
        return results

    # ---- the steps

    def _begin(self, number: int) -> dict[str, Any]:
        """Label what was given without labels; write the first data set."""
        project = self.project
        given = [(s, {"kind": "given", "name": s.name}) for s in project.unlabelled]
        states = self._label_structures(number, "first", [s for s, _ in given]) if given else {}
        self.store.add_structures(given, None)
        labels = [
            self.labeller.files.read(self.labeller.settings, key) for key, s in states.items() if s == "done"
        ]
        train, validation = write_first_data(project, [s for s in labels if s is not None], self.say)
        return {"train": train, "validation": validation, "test": len(project.test)}

    def _train(self, number: int) -> dict[str, Any]:
        """Train a committee on all labels; if none is new, the one before remains."""
        before = self.store.query("SELECT * FROM models WHERE round = ?", number - 1)
        if before and not any(path.exists() for path in self.folders.new_data(number - 1)):
            row = dict(before[0]) | {"round": number}
            self.store.record("models", **row)
            return {"reused": row["path"], **json.loads(row["errors"])}
        warm = self.project.folder / before[0]["path"] if before and self.project.warm_start else None
        path = training_yaml(self.project, number, warm)
        folder = path.parent
        environment = {"OMP_NUM_THREADS": "1"}
        prepare_task(folder, python("nnpkit", "train", path.absolute(), "--resume"), environment=environment)
        result = self._run_tasks(number, "train", [folder])[folder]
        if result["code"] != 0:
            raise NnpkitError(
                f"the training of round {number} failed ({result['reason']}); its log is {folder / 'log'}"
            )
        model = self.folders.model(number)
        summary = json.loads((model / "summary.json").read_text(encoding="utf-8"))
        judged = summary.get("validation") or summary.get("train")
        errors = {key: judged[key] for key in ("energy_rmse", "force_rmse", "stress_rmse")}
        errors |= {"spearman": summary["disagreement"]["spearman_atoms"]}
        self.store.record(
            "models", round=number, path=str(model.relative_to(self.project.folder)), members=summary["members"],
            n_train=summary["n_train"], errors=json.dumps(errors), time=time.time(),
        )  # fmt: skip
        return {"structures": summary["n_train"], **errors}

    def _model(self, number: int) -> Path:
        """Run folder of the committee of a round."""
        rows = self.store.query("SELECT path FROM models WHERE round = ?", number)
        return self.project.folder / rows[0]["path"]

    def _distances(self, number: int) -> dict[str, float]:
        """Shortest distances, Å, of the data that the committee of a round was trained on."""
        report = json.loads((self._model(number) / "data.json").read_text(encoding="utf-8"))
        return {
            pair: entry["distance"] for pair, entry in report["statistics"]["train"]["min_distance"].items()
        }

    def _bounds(self, number: int) -> Bounds:
        """Bounds of the disagreement for the committee of a round."""
        rules = self.project.bounds
        if rules.lower is not None and rules.upper is not None:
            return Bounds(rules.lower, rules.upper, "as given")
        arrays = np.load(self._model(number) / "validation.npz", allow_pickle=False)
        known = np.isfinite(arrays["force_error"])
        learnt = learn_bounds(
            arrays["force_std"][known], arrays["force_error"][known], rules.percentile, rules.factor
        )
        lower = learnt.lower if rules.lower is None else rules.lower
        upper = max(learnt.upper, 2.0 * lower) if rules.upper is None else rules.upper
        if not lower < upper:
            lower = upper / 2.0
        return Bounds(lower, upper, learnt.reason)

    def _explore(self, number: int) -> dict[str, Any]:
        """Run the dynamics and describe the labelled structures with the committee of this round."""
        bounds = self._bounds(number)
        base = self.folders.round(number) / "explore"
        committee = self._model(number) / "committee.pt"
        folders = self._exploration_runs(number, base, committee, bounds)
        describing = self._description(number, base, committee)
        results = self._run_tasks(number, "explore", [*folders, describing])
        failed = [folder for folder in folders if results[folder]["code"] != 0]
        for folder in failed:
            self.say(f"round {number}: {folder.name} failed: {results[folder]['reason']}")
        if len(failed) == len(folders):
            raise NnpkitError(
                f"every exploration of round {number} failed, the first: {results[failed[0]]['reason']}. Look at "
                f"{failed[0]}, then `nnpkit active resume` tries again"
            )
        reports = [json.loads((f / "exploration.json").read_text()) for f in folders if f not in failed]
        looked, outside = (sum(r.get(key, 0) for r in reports) for key in ("looked", "extrapolating"))
        if outside:
            self.say(
                f"round {number}: features outside the range of the training data in {outside} of {looked} looks"
            )
        return {
            "lower": bounds.lower, "upper": bounds.upper, "bounds": bounds.reason,
            "looked": looked, "extrapolating": outside, "collected": sum(r["collected"] for r in reports),
            "certain": sum(r["certain"] for r in reports), "runs": len(reports),
            "ended": [r["ended"] for r in reports], "failed": [f.name for f in failed],
            "names": [f.name for f in folders if f not in failed],
        }  # fmt: skip

    def _description(self, number: int, base: Path, committee: Path) -> Path:
        """Write the task that describes the training structures."""
        folder = base / "known"
        folder.mkdir(parents=True, exist_ok=True)
        files = [str(p.absolute()) for p in self.folders.data_before(number)[0]]
        with atomic_write(folder / "job.json") as stream:
            json.dump({"model": str(committee.absolute()), "files": files}, stream)
        command = python("nnpkit.active.describe_worker", folder.absolute())
        prepare_task(folder, command, environment={"OMP_NUM_THREADS": "1"})
        return folder

    def _exploration_runs(self, number: int, base: Path, committee: Path, bounds: Bounds) -> list[Path]:
        """Write the folders of all runs of a round."""
        project = self.project
        starts = list(project.starts or read_all(self.folders.data_before(number)[0]))
        distances = self._distances(number)
        folders = []
        for c, condition in enumerate(project.exploration.conditions):
            fitting = [s for s in condition.starts or starts if condition.ensemble != "npt" or s.pbc.all()]
            if not fitting:
                raise InputError("no periodic structure to start npt from", where="exploration.starts")
            for k in range(condition.runs):
                random = project.random(11, number, c, k)
                start = strained(fitting[int(random.integers(len(fitting)))], condition.strain, random)
                longer = replace(condition, steps=round(condition.steps * project.grow**number))
                folder = base / f"run-{c:02d}-{k:02d}"
                seed = int(random.integers(1, 2**31 - 1))
                prepare_run(folder, start, longer, project.exploration, committee, bounds, distances, seed)
                folders.append(folder)
        return folders

    def _select(self, number: int) -> dict[str, Any]:
        """Decide about every collected frame, and write down why."""
        explored = self.store.step(number, "explore") or {}
        base = self.folders.round(number) / "explore"
        candidates = [c for name in explored["names"] for c in read_candidates(base / name)]
        known = np.load(base / "known" / "vectors.npy", allow_pickle=False)
        keys = dict.fromkeys(
            json.loads((base / "known" / "keys.json").read_text()), "it is in the training data"
        )
        keys |= self._seen_before(number)
        bounds = Bounds(explored["lower"], explored["upper"], explored["bounds"])
        distances = self._distances(number)
        decisions = select(candidates, bounds, self.project.selection, known, keys, distances)
        taken = [
            c.structure.replace(info={EXPECTED_ENERGY: c.energy}, name=c.name)
            for c, d in zip(candidates, decisions, strict=True) if d.verdict == "taken"
        ]  # fmt: skip
        named = [(f"{k:05d} {d.name}", *d[1:]) for k, d in enumerate(decisions)]
        self.store.decide(
            number, [(n, key, verdict, reason, value) for n, key, verdict, reason, value in named]
        )
        origin = {"kind": "exploration", "round": number, "model": str(self._model(number))}
        self.store.add_structures([(s, {**origin, "run": s.name}) for s in taken], number)
        path = self.folders.round(number) / "selected.xyz"
        path.unlink(missing_ok=True)
        if taken:
            write_extxyz(path, taken)
        looked = max(1, explored["looked"])
        return {
            **count_verdicts(decisions),
            "fraction": 1.0 - explored["certain"] / looked if explored["looked"] else 0.0,
        }

    def _seen_before(self, number: int) -> dict[str, str]:
        """Structures that need no second look; from files of earlier rounds, so that the answer stays the same."""
        found = {
            structure_sha256(s, labels=False): "it was given without label" for s in self.project.unlabelled
        }
        for s in read_all(self.folders.data_before(number)[1]):
            found[structure_sha256(s, labels=False)] = "it is in the validation data"
        for s in self.project.test:
            found[structure_sha256(s, labels=False)] = "it is in the test data"
        for earlier in range(number):
            path = self.folders.round(earlier) / "selected.xyz"
            for s in read_all([path]) if path.exists() else ():
                found[structure_sha256(s, labels=False)] = f"it was taken in round {earlier}"
        return found

    def _label(self, number: int) -> dict[str, Any]:
        """Label what was selected."""
        path = self.folders.round(number) / "selected.xyz"
        if not path.exists():
            return {"done": 0, "quarantined": 0}
        selected = read_all([path])
        states = self._label_structures(number, "label", selected)
        labels: dict[str, Structure] = {}
        for key, state in states.items():
            label = self.labeller.files.read(self.labeller.settings, key) if state == "done" else None
            if label is not None:
                labels[key] = label
        train, validation = write_new_data(self.project, number, labels) if labels else (0, 0)
        return {
            "done": len(labels), "quarantined": sum(s == "quarantined" for s in states.values()), "train": train,
            "validation": validation,
        }  # fmt: skip

    def _label_structures(self, number: int, name: str, structures: list[Structure]) -> dict[str, str]:
        """Label structures; state of every key, none unknown."""
        work = self.folders.round(number) / name
        keys = self.store.add_structures([(s, {"kind": name, "round": number}) for s in structures], number)
        listed = self.labeller.prepare(
            structures, work
        )  # all of them: the folders do not depend on what is done
        self._run_tasks(number, "label", listed)
        states = self.store.harvest(self.labeller.settings, keys, number)
        if lost := [key for key, state in states.items() if state == "unknown"]:
            bad = next((f for f in listed if (outcome(f) or {}).get("code") != 0), listed[0])
            raise ExecutorError(
                f"{len(lost)} labels are unknown: their task failed ({(outcome(bad) or {}).get('reason')}). Its log is "
                f"{bad / 'log'}; `nnpkit active resume` tries again"
            )
        return states

    # ---- the end

    def _enough(self, number: int) -> str | None:
        """Why the loop ends after the training of a round, None if it goes on."""
        rules, store = self.project.stop, self.store
        rounds = [(store.step(r, "select") or {}, store.step(r, "label") or {}) for r in range(number)]
        if len(rounds) >= 2:
            few = all(s.get("fraction", 1.0) < rules.candidates for s, _ in rounds[-2:])
            errors = [
                json.loads(row["errors"]) for row in store.query("SELECT errors FROM models ORDER BY round")
            ]
            last, now = errors[-2].get("force_rmse"), errors[-1].get("force_rmse")
            if few and (last is None or now > last * (1.0 - rules.improvement)):
                return f"converged: less than {rules.candidates:.3g} of the frames were worth a label in two rounds"
            if all(s.get("taken", 0) > 0 and label["done"] == 0 for s, label in rounds[-2:]):
                return "every label of the last two rounds failed: look into quarantine"
        if number >= rules.rounds:
            return f"all {rules.rounds} rounds are done"
        n_labels = len(store.label_keys(self.labeller.settings))
        if rules.labels is not None and n_labels >= rules.labels:
            return f"{n_labels} labels, allowed {rules.labels}"
        used = sum((s["end"] or time.time()) - s["begin"] for s in store.fact("sessions") or [])
        if rules.hours is not None and used > 3600.0 * rules.hours:
            return f"{used / 3600.0:.2f} hours, allowed {rules.hours:g}"
        return None


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) < 80 else text[:77] + "..."
