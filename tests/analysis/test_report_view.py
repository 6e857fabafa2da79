"""The interactive page: what it holds, that nothing escapes from it, and in a browser that clicking works."""

from __future__ import annotations

import json
import os
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser import ARGUMENTS, chromium

from nnpkit.analysis.predictions import Predictions
from nnpkit.analysis.report.page import Page
from nnpkit.analysis.report.view import view_data, write_view
from nnpkit.data.structure import Structure
from nnpkit.measure.metrics import ErrorSums

NASTY = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>.xyz#3"


def predictions(frames: int = 6, atoms: int = 2, name: str = "a/b.xyz#{}") -> Predictions:
    """Structures whose energies are off by 1, 2, 3 ... meV/atom, and forces of whose first atom by as many eV/Å."""
    rng = np.random.default_rng(0)
    structures = [
        Structure(
            ["Cu", "O"] * (atoms // 2),
            rng.uniform(0, 4, (atoms, 3)),
            np.eye(3) * 5.0,
            True,
            name=name.format(n),
        )
        for n in range(frames)
    ]
    label = rng.normal(size=(frames * atoms, 3))
    forces = label.copy()
    forces[::atoms, 0] += np.arange(1, frames + 1)
    energy_label = rng.normal(size=frames)
    nothing = np.full(frames, np.nan)
    return Predictions(
        structures, energy_label + np.arange(1, frames + 1) * 1e-3, energy_label, forces, label,
        np.full((frames, 3, 3), np.nan), np.full((frames, 3, 3), np.nan), np.repeat(np.arange(frames), atoms), nothing,
        np.full(frames * atoms, np.nan), ErrorSums(),
    )  # fmt: skip


def test_the_worst_structures_are_there() -> None:
    content = view_data({"test": predictions(40)}, frames=10)
    names = [frame["name"] for frame in content["frames"]]
    assert len(names) <= 10
    assert names[:5] == [f"b.xyz#{n}" for n in (39, 38, 37, 36, 35)]
    assert content["structures"] == 40
    first = content["frames"][0]
    assert first["energy_error"] == pytest.approx(0.040)
    assert first["force_error"] == pytest.approx(40.0)
    assert first["errors"] == pytest.approx([40.0, 0.0], abs=1e-3)
    assert first["part"] == "test"
    assert len(first["x"]) == len(first["forces"]) == 6


def test_room_for_atoms_is_limited_and_energies_are_shifted() -> None:
    content = view_data({"test": predictions(20)}, lambda s: np.array([100.0 for _ in s]), atoms=8)
    assert len(content["frames"]) == 4
    plain = view_data({"test": predictions(20)}, atoms=8)["frames"][0]["energy"]
    assert content["frames"][0]["energy"] == pytest.approx([e - 100.0 for e in plain], abs=1e-5)


def test_what_is_not_labelled_is_nothing() -> None:
    found = predictions(2)
    found.energy_label[0] = np.nan
    found.force_label[2:] = np.nan
    frames = {f["name"]: f for f in view_data({"train": found})["frames"]}
    assert frames["b.xyz#0"]["energy"] is None
    assert frames["b.xyz#1"]["label"] is None
    assert frames["b.xyz#1"]["force_error"] is None
    json.dumps(frames, allow_nan=False)


def test_nothing_leaves_the_page_or_breaks_out_of_it(tmp_path: Path) -> None:
    write_view(tmp_path / "view.html", NASTY, view_data({"test": predictions(3, name=NASTY + "{}")}))
    text = (tmp_path / "view.html").read_text()
    assert "default-src &#x27;none&#x27;" in text
    assert "<img src=x" not in text
    assert text.count("<script") == text.count("</script>") == 3
    assert not re.search(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=""", text)
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert embedded is not None
    assert json.loads(embedded[1])["frames"][0]["name"].startswith("script><img")  # after the last slash


def test_clicking_in_a_browser(tmp_path: Path) -> None:
    """The worst structure is shown first; a line, a point and a key lead to others; no request, no error."""
    executable = chromium()
    from playwright.sync_api import sync_playwright

    found = predictions(6, 4, name="frames" + NASTY.replace("/", "|") + "{}")
    write_view(tmp_path / "view.html", "Copper oxide", view_data({"test": found}))
    problems: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1400, "height": 800})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request", lambda request: problems.append(request.url) if "http" in request.url[:5] else None
        )
        page.goto((tmp_path / "view.html").as_uri())
        rows = page.locator("#list tr")
        assert rows.count() == 6
        assert "6.00" in rows.nth(0).text_content()
        assert "chosen" in (rows.nth(0).get_attribute("class") or "")
        assert "Worst force off by 6.00" in page.locator("#about").text_content()
        assert page.locator("#viewer canvas").count() == 1
        marks = page.evaluate("document.body.dataset.ticks").split()
        steps = {round(float(b) - float(a), 9) for a, b in pairwise(marks)}
        assert len(marks) in range(3, 10)
        assert len(steps) == 1
        assert f"{steps.pop():e}"[0] in "125"
        assert page.evaluate("document.documentElement.scrollHeight") <= 800
        assert (
            page.evaluate("getComputedStyle(document.getElementById('viewer')).overflow") == "hidden"
        )  # its frame
        rows.nth(3).click()
        assert "Worst force off by 3.00" in page.locator("#about").text_content()
        page.keyboard.press("ArrowUp")
        assert "Worst force off by 4.00" in page.locator("#about").text_content()
        page.get_by_label("energies").check()
        assert "Energy off by 6.00" in page.locator("#about").text_content()
        before = page.evaluate("document.body.dataset.frame")
        box = page.locator("#plot").bounding_box()
        assert box is not None
        for x in range(70, int(box["width"]) - 20, 15):  # along the diagonal until a point is hit
            share = (x - 62) / (box["width"] - 74)
            page.mouse.click(box["x"] + x, box["y"] + 10 + (1 - share) * (box["height"] - 50))
            if page.evaluate("document.body.dataset.frame") != before:
                break
        assert page.evaluate("document.body.dataset.frame") != before
        page.get_by_label("errors and forces").check()
        assert page.title() == "Copper oxide"
        if picture := os.environ.get("NNPKIT_PICTURE"):
            page.screenshot(path=picture)
        browser.close()
    assert problems == []


def test_numbers_stay_in_their_tiles(tmp_path: Path) -> None:
    executable = chromium()
    from playwright.sync_api import sync_playwright

    page = Page("run", "")
    page.tiles({f"energy RMSE, test {n}": number for n, number in enumerate(["0.3567 meV/atom"] * 6)})
    page.write(tmp_path / "page.html")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1200, "height": 800})
        shown.goto((tmp_path / "page.html").as_uri())
        wide = shown.evaluate(
            "[...document.querySelectorAll('.tile b')].map((b) => b.scrollWidth - b.clientWidth)"
        )
        browser.close()
    assert wide == [0] * 6
