"""The loop on copper with EMT: what it leaves, what it refuses, and that nothing is done twice."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from active_tools import shaken_copper
from browser import ARGUMENTS, chromium
from typer.testing import CliRunner

from nnpkit.active.curve import curve
from nnpkit.active.label_files import LabelFiles
from nnpkit.active.label_worker import label_all
from nnpkit.active.labellers.reference_calculation import Limits
from nnpkit.active.random_structures import random_structures
from nnpkit.active.store import DATABASE, Store
from nnpkit.cli import main
from nnpkit.data.dataset import structure_sha256
from nnpkit.data.distances import shortest_distances
from nnpkit.data.formats.reading import read
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.lock import FolderLock

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from active_toy import PROJECT, write_project


def nnpkit(*arguments: object):
    return CliRunner().invoke(main.app, ["active", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project of one round, in its folder."""
    folder = tmp_path_factory.mktemp("loop")
    write_project(folder, PROJECT.replace("rounds: 3", "rounds: 1"))
    before = Path.cwd()
    os.chdir(folder)
    result = nnpkit("run", "active.yaml")
    assert result.exit_code == 0, result.output
    yield folder
    os.chdir(before)


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """A copy of the finished project that may be changed; tasks name their folders relative to nothing else."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


HOLD = """\
import sys, time
from nnpkit.lock import FolderLock
print(FolderLock(sys.argv[1]).acquire(), flush=True)
time.sleep(60)
"""


def computed(folder: Path) -> list[str]:
    return sorted(line.split()[0] for line in (folder / "project" / "computed.log").read_text().splitlines())


def test_every_frame_has_a_verdict_and_every_taken_one_a_label(finished) -> None:
    store = Store(finished / "project")
    decisions = store.query("SELECT * FROM decisions")
    collected = (store.step(0, "explore") or {})["collected"]
    assert len(decisions) == collected > 0
    assert all(d["reason"] for d in decisions)
    taken = sorted(d["key"] for d in decisions if d["verdict"] == "taken")
    settings = store.query("SELECT DISTINCT settings FROM labels")[0][0]
    assert store.label_keys(settings) == taken == computed(finished)
    files = [finished / "project/rounds/000" / f"new-{part}.xyz" for part in ("train", "validation")]
    new = [s for path in files if path.exists() for s in read(path)]
    assert sorted(structure_sha256(s, labels=False) for s in new) == taken
    models = store.query("SELECT n_train FROM models ORDER BY round")
    n_new = len(read(finished / "project/rounds/000/new-train.xyz"))
    assert [m[0] for m in models] == [8, 8 + n_new]
    assert store.fact("ended") == "all 1 rounds are done"


def test_status_and_report(finished) -> None:
    status = nnpkit("status", "project")
    assert status.exit_code == 0
    assert "all 1 rounds are done" in " ".join(status.stdout.split())
    assert nnpkit("report", "active.yaml", "-o", "page.html").exit_code == 0
    page = (finished / "page.html").read_text()
    assert not (finished / "project" / "curve.json").exists()
    for words in ("Errors per round", "Energies per round", "What was uncertain", "Costs", "number 1 by fps"):
        assert words in page
    assert page.count("data:image/png;base64,") == 5
    view = (finished / "page.view.html").read_text()
    assert '"part":"first"' in view
    assert 'href="page.view.html"' in page
    assert not re.search(r"(src|href)=.?http", page)


def test_clicking_in_the_report(finished) -> None:
    """Its link leads to the labels, the worst first; a line, a key and a point choose others; no request, no error."""
    executable = chromium()
    from playwright.sync_api import sync_playwright

    assert nnpkit("report", "project", "-o", "clicked.html").exit_code == 0
    problems: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request", lambda request: problems.append(request.url) if "http" in request.url[:5] else None
        )
        page.goto((finished / "clicked.html").as_uri())
        shown = page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        page.get_by_text("every frame and its reason").click()
        assert page.get_by_text("number 1 by fps").first.is_visible()
        page.get_by_role("link", name="clicked.view.html").click()
        about, rows = page.locator("#about"), page.locator("#list tr")
        assert page.locator("#viewer canvas").count() == 1
        told = []
        rows.nth(2).click()
        told.append(about.text_content())
        page.keyboard.press("ArrowDown")
        told.append(about.text_content())
        box = page.locator("#plot").bounding_box()
        assert box is not None
        for x in range(70, int(box["width"]) - 20, 6):  # along the diagonal: predictions are close to labels
            share = (x - 62) / (box["width"] - 74)
            page.mouse.click(box["x"] + x, box["y"] + 10 + (1 - share) * (box["height"] - 50))
            told.append(about.text_content())
        browser.close()
    assert shown
    assert wider <= 0
    assert told[0] != told[1]
    assert len(set(told)) > 3
    assert not problems


def test_a_report_while_a_round_explores(copy) -> None:
    """What has been seen so far is drawn; the bounds of that round are not known yet."""
    store = Store(copy / "project")
    with store.transaction() as database:
        database.execute("UPDATE steps SET state = 'running' WHERE round = 0 AND step = 'explore'")
    store.close()
    assert nnpkit("report", "project", "-o", "page.html").exit_code == 0
    assert "What was uncertain" in (copy / "page.html").read_text()


def test_every_round_is_judged_on_data_it_never_saw(copy) -> None:
    result = nnpkit("report", "project", "--test", "copper.xyz", "-o", "page.html")
    assert result.exit_code == 0, result.output
    kept = list(json.loads((copy / "project" / "curve.json").read_text()).values())
    assert len(kept) == 2  # rounds
    expected = load(copy / "project/rounds/001/train/model/committee.pt").predict(
        read("copper.xyz", frames=0)[0]
    )
    label = read("copper.xyz", frames=0)[0]
    store = Store(copy / "project")
    (alone,) = [e["force_rmse"] for n, e in curve(store, [label]).items() if n == 1]
    assert alone == pytest.approx(np.sqrt(np.mean((expected.forces - label.forces) ** 2)), rel=1e-12)


def test_a_finished_project_is_not_begun_again(finished) -> None:
    before = computed(finished)
    refused = nnpkit("run", "active.yaml")
    assert refused.exit_code == 1
    assert "Continue it: nnpkit active resume" in refused.stderr
    assert nnpkit("resume", "project").exit_code == 0
    assert computed(finished) == before
    assert "no project to resume" in nnpkit("resume", "active.yaml", "output=elsewhere").stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("reference.calculator=lj", "reference is not what it was"),
        ("seed=4", "seed is not what it was"),
        ("warm_start=false", "warm_start is not what it was"),
    ],
)
def test_changes_that_would_spoil_it_are_refused(finished, change, words) -> None:
    result = nnpkit("resume", "active.yaml", "stop.rounds=1", change)
    assert result.exit_code == 1
    assert words in result.stderr


def test_other_changes_are_noted(copy) -> None:
    result = nnpkit("resume", "active.yaml", "stop.rounds=1", "selection.budget=7")
    assert result.exit_code == 0, result.output
    assert "settings changed from here on" in result.stdout
    changes = Store(copy / "project").fact("changes")
    assert "selection" in changes[-1]["changed"]
    assert changes[-1]["before"]["selection"]["budget"] == 5


def test_only_one_driver(finished) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, finished / "project" / "driver.lock"], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        result = nnpkit("resume", "project")
        asked = nnpkit("stop", "project")
        other.kill()
    assert result.exit_code == 1
    assert f"another driver works on this project by process {other.pid}" in result.stderr
    assert "to stop" in asked.stdout
    (finished / "project" / "stop").unlink()


def test_a_damaged_database_is_rebuilt(copy) -> None:
    """Labels, steps and models come back from the files, and nothing is computed again."""
    before, path = computed(copy), copy / "project" / DATABASE
    store = Store(copy / "project")
    labels = store.query("SELECT key, settings, state FROM labels ORDER BY key")
    store.query("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    path.write_bytes(path.read_bytes()[:5000] + os.urandom(4000))
    result = nnpkit("resume", "active.yaml", "stop.rounds=1")
    assert result.exit_code == 1
    assert "the database is damaged" in result.stderr
    result = nnpkit("resume", "active.yaml", "stop.rounds=1", "--rebuild")
    assert result.exit_code == 0, result.output
    assert computed(copy) == before
    again = Store(copy / "project").query("SELECT key, settings, state FROM labels ORDER BY key")
    assert [tuple(row) for row in again] == [tuple(row) for row in labels]


def test_a_round_without_candidates(copy) -> None:
    """The committee is certain of everything: no labels, no training, and the loop ends."""
    result = nnpkit(
        "resume", "active.yaml", "stop.rounds=2", "selection={lower: 49.0, upper: 50.0, extrapolation: null}"
    )
    assert result.exit_code == 0, result.output
    store = Store(copy / "project")
    assert (store.step(1, "select") or {})["taken"] == 0
    assert (store.step(1, "label") or {})["done"] == 0
    assert "reused" in (store.step(2, "train") or {})


def test_stop_and_go_on(tmp_path, monkeypatch) -> None:
    """A driver that is asked to stop in its first training leaves a project that goes on."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, PROJECT.replace("rounds: 3", "rounds: 1"))
    driver = subprocess.Popen(
        [sys.executable, "-m", "nnpkit", "active", "run", "active.yaml"], stdout=subprocess.PIPE
    )
    lock = FolderLock(tmp_path / "project" / "rounds" / "000" / "train" / "lock")
    deadline = time.monotonic() + 900
    while lock.holder() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.send_signal(signal.SIGTERM)
    output, _ = driver.communicate(timeout=900)
    assert driver.returncode == 143, output
    assert b"stopped; continue with: nnpkit active resume" in output
    assert lock.holder() is None
    assert not (tmp_path / "project" / "rounds" / "000" / "train" / "done.json").exists()


class FullDisk:
    """A reference calculator for which there is no room."""

    identity = {"kind": "full"}  # noqa: RUF012

    def require(self, state):
        """Takes every charge and spin."""

    def compute(self, structure, folder, changes):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_no_failed_label(tmp_path) -> None:
    (structure,) = shaken_copper(1)
    files = LabelFiles(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        label_all(FullDisk(), [structure], files, "s", tmp_path, Limits(), [])
    assert list(files.failed_keys("s")) == []


def test_a_full_disk_under_the_database(tmp_path) -> None:
    store = Store(tmp_path, create=True)
    store.database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(InputError, match=r"cannot be used.*full.*nnpkit active resume"):
        store.note("much", "x" * 100_000)
    store.database.execute("PRAGMA max_page_count = 100000")
    store.note("much", "x" * 100_000)


def test_random_structures_keep_their_distance() -> None:
    structures = random_structures({"O": 2, "H": 4}, 2, (9.0, 14.0), 0.8, seed=1)
    for structure in structures:
        assert structure.composition == {"O": 2, "H": 4}
        assert 9.0 <= structure.volume / 6 <= 14.0
        shortest = {pair: found.distance for pair, found in shortest_distances([structure]).items()}
        assert shortest["H-H"] >= 0.8 * 0.62
        assert shortest["H-O"] >= 0.8 * 0.97
        assert shortest["O-O"] >= 0.8 * 1.32
    again = random_structures({"O": 2, "H": 4}, 2, (9.0, 14.0), 0.8, seed=1)
    assert json.dumps([s.positions.tolist() for s in structures]) == json.dumps(
        [s.positions.tolist() for s in again]
    )
    with pytest.raises(InputError, match="do not fit"):
        random_structures({"O": 3}, 1, (0.5, 0.6), 1.0, seed=1)
