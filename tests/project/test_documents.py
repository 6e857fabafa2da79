"""The documents say what the project is now: commands, settings, targets, pages."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module

import pytest
from tree import ROOT

from nnpkit.cli.main import COMMANDS, load_command

TOP_LEVEL = {
    "nnpkit", "lammps_plugin", "examples", "tests", "docs", "containers", "benchmarks",
    "pyproject.toml", "constraints.txt", "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md",
    "SECURITY.md", "LICENSE",
}  # fmt: skip


@pytest.fixture(scope="module")
def reference():
    """The Sphinx extension that writes the references."""
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        return import_module("nnpkit_reference")
    finally:
        sys.path.pop(0)


def test_top_level_is_as_agreed() -> None:
    listing = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("no git checkout")
    names = {line.split("/")[0] for line in listing.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL


@pytest.mark.parametrize("command", ["make quickstart", "make test"])
def test_readme_shows_both_commands(command: str) -> None:
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")


def test_make_targets_of_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"quickstart", "test", "lint", "docs", "bench"} <= targets
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        named = set(re.findall(r"(?:^|`|    )make ([a-z]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, path.name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_the_reference(reference, name: str) -> None:
    text = reference.command_reference()
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (mine,) = [part for part in section if part.startswith(f"nnpkit {name}\n")]
    for parameter in load_command(name).params:
        assert parameter.help.split()[0] in mine
        assert parameter.param_type_name == "argument" or parameter.opts[0] in mine


def test_commands_of_the_documents_exist() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        called = set(re.findall(r"(?:^|`)(?:mpirun -np \d+ )?nnpkit ([a-z]+)", text, re.MULTILINE))
        assert called <= set(COMMANDS), path.name


def settings(schema: dict, definitions: dict) -> list[tuple[str, dict]]:
    """All (key, field) pairs of a JSON schema, also of sections that only others refer to."""
    found = list(schema.get("properties", {}).items())
    for definition in definitions.values():
        found += definition.get("properties", {}).items()
    return found


@pytest.mark.parametrize("kind", ["yaml", "active"])
def test_every_setting_has_prose_and_is_in_the_reference(reference, kind: str) -> None:
    from nnpkit.config.schema import Config
    from nnpkit.config.schema_active import ActiveConfig

    schema = (Config if kind == "yaml" else ActiveConfig).model_json_schema()
    text = getattr(reference, f"{kind}_reference")()
    fields = settings(schema, schema["$defs"])
    assert [key for key, field in fields if not field.get("description")] == []
    flat = " ".join(text.split())
    missing = [
        key
        for key, field in fields
        if f"`{key}`" not in text or " ".join(field["description"].split()) not in flat
    ]
    assert missing == []


def test_settings_shown_in_the_documents_are_valid() -> None:
    import yaml

    from nnpkit.config.schema import Config

    found = 0
    for path in (ROOT / "docs").rglob("*.md"):
        if "generated" in path.parts or "_build" in path.parts:
            continue
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            values = yaml.safe_load(block)
            if set(values) <= set(Config.model_fields):
                data = {"train": "frames.xyz", **values.pop("data", {})}
                Config.model_validate({"data": data, **values})
                found += 1
    assert found > 3


def test_every_page_is_in_a_table_of_contents() -> None:
    docs = ROOT / "docs"
    pages = {
        p.relative_to(docs).with_suffix("").as_posix() for p in docs.rglob("*.md") if "_build" not in p.parts
    }
    listed = {"index"}
    for path in docs.rglob("*.md"):
        for block in re.findall(r"```\{toctree\}(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            entries = [
                line.strip() for line in block.splitlines() if line.strip() and not line.startswith(":")
            ]
            listed |= {(path.parent / entry).relative_to(docs).as_posix() for entry in entries}
    generated = {"generated/commands", "generated/yaml", "generated/active"}
    assert pages | generated == listed


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        if "generated" in path.parts:
            continue
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if (
                not target.startswith(("http", "mailto", "generated/"))
                and not (path.parent / target).exists()
            ):
                broken.append(f"{path.name}: {target}")
    assert not broken, "\n".join(broken)


def test_no_path_of_one_machine_in_the_tree() -> None:
    pattern = re.compile(r"(?<![\w.~])/(?:home|root|work|Users)/\w")
    offenders = [
        str(path.relative_to(ROOT))
        for folder in ("nnpkit", "lammps_plugin", "examples", "docs", "containers", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".yaml", ".cpp", ".h", ".in", ".txt", ".log"}
        and "build" not in str(path.relative_to(ROOT))
        and pattern.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not offenders, "\n".join(offenders)


def test_numbers_of_references_are_those_of_their_names() -> None:
    """`[[4]](#shao2021)` wherever a page cites: the number and the name of one entry of the list."""
    text = (ROOT / "docs" / "theory" / "references.md").read_text(encoding="utf-8")
    numbers = dict(re.findall(r"^\((\w+)\)=\n\*\*\[(\d+)\]\*\*", text, re.MULTILINE))
    assert len(numbers) > 20
    wrong = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        cited = re.findall(
            r"\[\[(\d+)\]\]\((?:[\w/.]*references\.md)?#(\w+)\)", page.read_text(encoding="utf-8")
        )
        wrong += [f"{page.name}: [{n}] for {name}" for n, name in cited if numbers.get(name) != n]
    assert not wrong
