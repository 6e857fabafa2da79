"""The calls that SECURITY.md promises not to make, looked for in the syntax trees."""

from __future__ import annotations

import ast

import pytest
from tree import PACKAGE, ROOT, parsed

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_BUILTINS = {"eval", "exec", "__import__"}
FORBIDDEN_CALLS = {"os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.save"}


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute chain, empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def offence(node: ast.AST) -> str:
    """What is forbidden about `node`, empty if nothing."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        found = {name.split(".")[0] for name in names} & FORBIDDEN_MODULES
        return f"imports {found.pop()}" if found else ""
    if not isinstance(node, ast.Call):
        return ""
    name = dotted(node.func)
    if name in FORBIDDEN_BUILTINS or name in FORBIDDEN_CALLS:
        return f"calls {name}"
    constants = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
    if constants.get("shell"):
        return "runs a shell"
    if constants.get("allow_pickle"):
        return "allows pickles"
    if name == "torch.load" and constants.get("weights_only") is not True:
        return "calls torch.load without weights_only=True"
    return ""


def test_no_unsafe_calls() -> None:
    folders = [PACKAGE] + [ROOT / name for name in ("examples", "benchmarks", "docs", "lammps_plugin")]
    offenders = [
        f"{path}:{getattr(node, 'lineno', 0)} {found}"
        for folder in folders
        for path, tree in parsed(folder)
        for node in ast.walk(tree)
        if (found := offence(node))
    ]
    assert not offenders, "\n".join(offenders)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "yaml.load(stream)",
        "subprocess.run('ls', shell=True)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_the_check_sees(text: str) -> None:
    assert any(offence(node) for node in ast.walk(ast.parse(text)))


@pytest.mark.parametrize("text", ["model.eval()", "yaml.safe_load(s)", "torch.load(p, weights_only=True)"])
def test_the_check_lets_pass(text: str) -> None:
    assert not any(offence(node) for node in ast.walk(ast.parse(text)))
