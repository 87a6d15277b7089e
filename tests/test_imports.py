"""The import rule: which sub-package may know which, read from the source with `ast`."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import flashdd

BUILDING = ["core", "data models", "training", "images labels", "artifact", "students", "report", "pipeline"]
BUILDING += ["cli", "__main__"]
FLOORS = {name: floor for floor, names in enumerate(BUILDING) for name in names.split()}
DENIED_TO_STUDENTS = ("flashdd.data.sources", "flashdd.images", "flashdd.labels.flash.capacity")
STARTS_AT_ONCE = (
    *("flashdd.core.errors", "flashdd.core.config", "flashdd.core.record", "flashdd.core.files"),
    *("flashdd.report", "flashdd.cli.main"),
)
TORCH = ("torch", "lightning_fabric", "safetensors.torch")
LEAVING = {"print", "rich.print", "sys.stdout.write", "sys.stderr.write"}
LEAVING |= {"exit", "quit", "sys.exit", "os._exit", "SystemExit"}

Import = tuple[str, bool]  # dotted target, whether it happens when the module is imported
Graph = dict[str, set[str]]


def imports_of(node: ast.AST, *, at_once: bool = True) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, at_once) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            origin = "." * child.level + (f"{child.module}." if child.module else "")
            yield from ((f"{origin}{alias.name}", at_once) for alias in child.names)
        else:
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            )
            yield from imports_of(child, at_once=at_once and not later)


def inside(name: str, packages: tuple[str, ...]) -> bool:
    return name.startswith(tuple(f"{package}." for package in packages)) or name in packages


def reached(start: str, graph: Graph) -> set[str]:
    """`start` and all that it imports, through others too; a module's packages are imported with it."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        if (module := waiting.pop()) not in seen:
            seen.add(module)
            waiting += graph.get(module, set())
            if module.startswith("flashdd."):
                waiting.append(module.rpartition(".")[0])
    return seen


def local_faults(name: str, tree: ast.AST) -> Iterator[str]:
    """What is wrong with one module by itself."""
    own = name.split(".")[1]
    if own not in FLOORS:
        yield f"{name} belongs to no floor"
        return
    for target, _ in imports_of(tree):
        other = target.split(".")[1] if target.startswith("flashdd.") else None
        if target.startswith("."):
            yield f"{name} imports {target}: write the whole name"
        elif target == "flashdd" or (other not in (None, "__version__", *FLOORS)):
            yield f"{name} imports {target}: take it from its own module"
        elif other not in (None, "__version__", own) and (
            FLOORS[other] >= FLOORS[own] or (own == "report" and other != "core")
        ):
            yield f"{name} imports {target}: not a lower floor"
    if own not in ("cli", "__main__"):
        for node in ast.walk(tree):
            called = (
                node.func if isinstance(node, ast.Call) else node.exc if isinstance(node, ast.Raise) else None
            )
            if called is not None and ast.unparse(called) in LEAVING:
                yield f"{name} uses {ast.unparse(called)}: only cli prints or exits"


def faults(sources: dict[str, str]) -> list[str]:
    """Every breach of the rule in `sources`, module name to text; the root `flashdd` is left out."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    found = [fault for name, tree in trees.items() for fault in local_faults(name, tree)]

    def resolved(target: str) -> str:
        name = target
        while name and name not in trees:
            name = name.rpartition(".")[0]
        return name or target

    always: Graph = {n: {resolved(t) for t, _ in imports_of(tree)} for n, tree in trees.items()}
    at_once: Graph = {n: {resolved(t) for t, now in imports_of(tree) if now} for n, tree in trees.items()}
    for name in trees:
        if inside(name, ("flashdd.students",)):
            bad = sorted(m for m in reached(name, always) if inside(m, DENIED_TO_STUDENTS))
            found += [f"{name} reaches {m}: students are denied it" for m in bad]
        if inside(name, STARTS_AT_ONCE):
            bad = sorted(m for m in reached(name, at_once) if inside(m, TORCH))
            found += [f"{name} imports {m} when it is imported" for m in bad]
    try:
        graphlib.TopologicalSorter(always).prepare()
    except graphlib.CycleError as error:
        found.append(f"cycle: {' -> '.join(error.args[1])}")
    return found


def test_the_package_keeps_the_rule() -> None:
    root = Path(flashdd.__file__).parent
    paths = {p: p.relative_to(root.parent).with_suffix("").parts for p in sorted(root.rglob("*.py"))}
    named = {".".join(parts).removesuffix(".__init__"): path for path, parts in paths.items()}
    sources = {n: path.read_text(encoding="utf-8") for n, path in named.items() if n != "flashdd"}
    assert {n.split(".")[1] for n in sources} - {"__main__"} == set(FLOORS) - {"__main__"}
    assert faults(sources) == []


def test_the_rule_sees_each_offence() -> None:
    sources = {
        "flashdd.core": "",
        "flashdd.core.errors": "from flashdd.core import heavy\nfrom flashdd import __version__",
        "flashdd.core.heavy": "try:\n    import torch.nn\nexcept ImportError:\n    raise SystemExit(1)",
        "flashdd.core.record": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
        "flashdd.data.sources": "def f():\n    from flashdd.models.table import build",
        "flashdd.data.a": "import flashdd.data.b",
        "flashdd.data.b": "def f():\n    from flashdd.data import a",
        "flashdd.models.table": "from . import count\nfrom flashdd import run\nimport sys\nsys.exit(2)",
        "flashdd.labels.open": "def f():\n    from flashdd.data.sources import prepare",
        "flashdd.students.fit": "from flashdd.labels.open import f\nprint(f)",
        "flashdd.report.build": "def f():\n    from flashdd.artifact.read import load",
        "flashdd.pipeline.run": "import flashdd.cli.main",
        "flashdd.cli.main": "def f():\n    import torch\n    print('fine')",
        "flashdd.extras": "",
    }
    assert sorted(faults(sources)) == [
        "cycle: flashdd.data.a -> flashdd.data.b -> flashdd.data.a",
        "flashdd.core.errors imports torch.nn when it is imported",
        "flashdd.core.heavy uses SystemExit: only cli prints or exits",
        "flashdd.data.sources imports flashdd.models.table.build: not a lower floor",
        "flashdd.extras belongs to no floor",
        "flashdd.models.table imports .count: write the whole name",
        "flashdd.models.table imports flashdd.run: take it from its own module",
        "flashdd.models.table uses sys.exit: only cli prints or exits",
        "flashdd.pipeline.run imports flashdd.cli.main: not a lower floor",
        "flashdd.report.build imports flashdd.artifact.read.load: not a lower floor",
        "flashdd.students.fit reaches flashdd.data.sources: students are denied it",
        "flashdd.students.fit uses print: only cli prints or exits",
    ]
