"""Modules of the package depend on each other in one direction, through public names, and have names of their own."""

from __future__ import annotations

import ast
from collections import defaultdict

from tree import PACKAGE, ROOT, parsed, sources

# Names of modules that stand in several rooms, with the reason. Commands are called as their modules are.
SHARED_NAMES = {
    "registered": "each room that others can add to keeps its list in a module of this name",
    "contract": "what a room asks of its members; the name of the room says of which",
    "family": "each family of models has one, in its folder",
    "settings": "the same",
}


def module_name(path) -> str:
    """Dotted name of a file of the package, relative to the root."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.Module, modules: set[str]) -> set[str]:
    """Modules of the package that `tree` imports, wherever the import stands, for types alone included."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules else node.module)
    return found & modules


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_no_circles() -> None:
    trees = {module_name(path): tree for path, tree in parsed()}
    modules = set(trees)
    graph = {name: imported(tree, modules) - {name} for name, tree in trees.items()}
    graph["nnpkit"].discard("nnpkit.api")  # the package offers the functions of the layer above all others
    assert circles(graph) == []


def test_the_check_finds_circles() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"d"}}
    assert circles(graph) == [["a", "b", "c"]]


def foreign_privates(tree: ast.Module, modules: set[str]) -> list[str]:
    """Names with an underscore that `tree` takes from other modules of the package or from objects of theirs."""
    found, aliases, own = [], set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nnpkit"):
            for alias in node.names:
                if alias.name.startswith("_") and not alias.name.startswith("__"):
                    found.append(f"line {node.lineno}: {node.module}.{alias.name}")
                if f"{node.module}.{alias.name}" in modules:
                    aliases.add(alias.asname or alias.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    of_named_tuples = {"_replace", "_asdict", "_fields", "_make"}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
            continue
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        fine = owner in {"self", "cls", "os", "sys"} or node.attr in own | of_named_tuples
        if owner in aliases or not fine:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_no_private_names_of_others() -> None:
    trees = {path: tree for path, tree in parsed()}
    modules = {module_name(path) for path in trees}
    offenders = [
        f"{path} {found}" for path, tree in trees.items() for found in foreign_privates(tree, modules)
    ]
    assert not offenders, "\n".join(offenders)


def test_the_check_finds_private_names() -> None:
    text = """
from nnpkit import lock
from nnpkit.files import _part
lock._held()
store._frames
class A:
    def _mine(self): self._own = 1
a._mine(); a._own; record._replace(x=1)
"""
    found = foreign_privates(ast.parse(text), {"nnpkit.lock", "nnpkit.files"})
    assert sorted(line.split(": ")[1] for line in found) == [
        "lock._held",
        "nnpkit.files._part",
        "store._frames",
    ]


def test_names_of_modules_are_their_own() -> None:
    rooms = defaultdict(list)
    for path in sources(PACKAGE, ".py"):
        if path.name not in ("__init__.py", "__main__.py") and "cli" not in path.parts:
            rooms[path.stem].append(str(path.relative_to(ROOT)))
    shared = {name: paths for name, paths in rooms.items() if len(paths) > 1}
    assert set(shared) - set(SHARED_NAMES) == set(), shared


def test_sources_in_cpp_have_names_of_their_own() -> None:
    """They include each other by their names alone, from any folder."""
    places = defaultdict(list)
    for room in ("nnpkit/kernels", "lammps_plugin/src", "lammps_plugin/c_library"):
        for path in (ROOT / room).rglob("*"):
            if path.suffix in {".h", ".cpp", ".cu"}:
                places[path.name].append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_what_kernels_share_knows_none_of_them() -> None:
    """A kernel registers itself: its folder is all that a new one touches."""
    kinds = ("acsf", "deep", "cluster", "nep")
    shared = sorted((ROOT / "nnpkit/kernels/csrc/common").iterdir())
    offenders = [
        f"{path.name}: {line.strip()}"
        for path in shared
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("#include") and any(f'"{kind}_' in line for kind in kinds)
    ]
    assert len(shared) > 10
    assert not offenders, "\n".join(offenders)
    loose = {p.name for p in (ROOT / "nnpkit/kernels/csrc").iterdir() if p.is_file()}
    assert loose == {"CMakeLists.txt"}, "a kernel lives in a folder of its own"


# Modules outside of `families/` that are of one family, with the reason.
OF_ONE_FAMILY = {
    "nnpkit/deploy/imports/deepmd_potential.py": "the potentials of that program are Deep Potentials",
    "nnpkit/deploy/imports/runner_potential.py": "the potentials of those programs have symmetry functions",
    "nnpkit/deploy/imports/runner_units.py": "the same",
    "nnpkit/deploy/imports/runner_networks.py": "the same",
    "nnpkit/deploy/imports/runner_charges.py": "the same",
    "nnpkit/deploy/targets/runner.py": "the same",
}


def knowledge_of_families(tree: ast.Module, families: set[str]) -> list[str]:
    """Where `tree` imports a family, or compares something with the name of one."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nnpkit.families."):
            if node.module.split(".")[2] in families:
                found.append(f"line {node.lineno}: imports {node.module}")
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            names = {n.value for side in sides for n in ast.walk(side) if isinstance(n, ast.Constant)}
            found += [f"line {node.lineno}: {ast.unparse(node)}" for name in names & families]
    return found


def test_families_are_known_in_their_room_alone() -> None:
    families = {path.parent.name for path in (PACKAGE / "families").glob("*/__init__.py")}
    assert len(families) >= 3
    offenders = [
        f"{path} {found}"
        for path, tree in parsed()
        if path.parts[1] != "families" and path.as_posix() not in OF_ONE_FAMILY
        for found in knowledge_of_families(tree, families)
    ]
    assert not offenders, "\n".join(offenders)


def test_the_check_finds_knowledge_of_families() -> None:
    text = """
from nnpkit.families.acsf.settings import AcsfModel
from nnpkit.families.registered import family_of
if model.kind in ("acsf", "other"): pass
"""
    assert len(knowledge_of_families(ast.parse(text), {"acsf"})) == 2
