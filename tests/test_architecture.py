"""The house of ARCHITECTURE.md: how large its rooms are, how deep imports go, and which words the core does not know.

Who may import whom is in pyproject.toml (``make lint``).
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tools.project import ROOT

PACKAGES = {"atrank_lib": ROOT, "data_scripts": ROOT, "experiments": ROOT, "tools": ROOT, "atrank_book": ROOT / "book"}
MODULES = {package: sorted((parent / package).rglob("*.py")) for package, parent in PACKAGES.items()}
LIBRARY = MODULES["atrank_lib"]
# The core lies open in atrank_lib/, rooms are folders, but for the modules beside it that go beyond the paper.
AROUND = {
    ROOT / "atrank_lib" / f"{name}.py"
    for name in ("__init__", "__main__", "variants", "original", "impressions", "context", "heads", "interpret")
}
CORE = sorted(set((ROOT / "atrank_lib").glob("*.py")) - AROUND)

# How something is made fast, spread out, kept or served is said in the rooms that do it.
FOREIGN = re.compile(
    r"(?<![a-z])(kernels?|strips?(?!\()|row[ _]?updates?|workers?|threads?|threading|processes|multiprocessing"
    r"|torchrun|world_size|distributed|compil(e|es|ed|er|ers|ing)|autocast|ctypes|checkpoints?|serving)(?![a-z])",
    re.IGNORECASE,
)


def lines(files: list[Path]) -> int:
    return sum(len(file.read_text().splitlines()) for file in files)


def name(file: Path, parent: Path) -> str:
    parts = file.relative_to(parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(nodes: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """What runs when the module is imported: neither bodies of functions nor what is for type checkers alone."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from imports(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(ast.iter_child_nodes(node))


def graph(package: str) -> dict[str, set[str]]:
    """For each module of a package the modules of that package that it names in its imports, where a package's
    ``__init__`` is a module as others are. The ``__init__`` above a module runs before it too, but it is not what the
    module is built on, so it counts only where it is named."""
    parent = PACKAGES[package]
    modules = {name(file, parent): file for file in MODULES[package]}
    found: dict[str, set[str]] = {}
    for module, file in modules.items():
        named: set[str] = set()
        for statement in imports(ast.parse(file.read_text()).body):
            if isinstance(statement, ast.Import):
                named.update(alias.name for alias in statement.names)
            else:
                assert statement.level == 0, f"{file}:{statement.lineno}: name the package: from {package}.… import"
                whole = [f"{statement.module}.{alias.name}" for alias in statement.names]
                named.update(full if full in modules else str(statement.module) for full in whole)
        found[module] = (named & modules.keys()) - {module}
    return found


def longest_chain(imported: dict[str, set[str]]) -> list[str]:
    """The longest way down from a module to one that imports nothing of the package, both ends included."""
    longest: dict[str, list[str]] = {}
    for module in TopologicalSorter(imported).static_order():  # what is imported comes first
        longest[module] = [module, *max((longest[lower] for lower in imported[module]), key=len, default=[])]
    return max(longest.values(), key=len)


def test_the_core_can_be_read_in_an_afternoon():
    sizes = {file.name: lines([file]) for file in CORE}
    assert sum(sizes.values()) <= 2000, sizes


def test_the_library_stays_small():
    # what comes in pays with what goes; what came after the paper, and the doctor, were let in with 300
    assert lines([*LIBRARY, *sorted((ROOT / "atrank_lib").rglob("*.[ch]"))]) <= 8300


@pytest.mark.parametrize("package", MODULES)
def test_a_module_fits_in_a_head(package: str):
    long = {str(file.relative_to(ROOT)): lines([file]) for file in MODULES[package] if lines([file]) > 350}
    assert not long


@pytest.mark.parametrize("package", MODULES)
def test_modules_import_in_no_circle(package: str):
    try:
        TopologicalSorter(graph(package)).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_longest_chain_of_imports_is_short():
    chain = longest_chain(graph("atrank_lib"))
    assert len(chain) <= 12, " -> ".join(chain)


def test_the_core_has_no_word_of_what_stands_around_it():
    told = [
        f"{file.relative_to(ROOT)}:{number}: {found[0]}"
        for file in CORE
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        for found in FOREIGN.finditer(line)
    ]
    assert not told, "\n".join(told)


def test_the_drawing_has_the_order_of_the_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    drawing = (ROOT / "ARCHITECTURE.md").read_text().partition("\natrank_lib/")[2].partition("\ndata_scripts/")[0]
    assert re.findall(r"^   (\w+)", drawing, re.MULTILINE) == layers[::-1]  # data flow down, imports up


def test_a_chain_counts_what_runs_at_import_and_no_more():
    source = """
import a
if TYPE_CHECKING:
    import b
else:
    import c
try:
    import d
except ImportError:
    import e
def later():
    import f
class Now:
    import g
"""
    assert [alias.name for found in imports(ast.parse(source).body) for alias in found.names] == [
        "a",
        "c",
        "d",
        "e",
        "g",
    ]
    assert longest_chain({"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": {"c"}}) == ["a", "b", "c"]
