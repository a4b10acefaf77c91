"""The examples in the docstrings run as they stand, and everything on the API pages has one."""

from __future__ import annotations

import copy
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import atrank_lib
from tools.project import ROOT

PACKAGES = (ROOT / "atrank_lib", ROOT / "book" / "atrank_book", ROOT / "data_scripts", ROOT / "experiments")
MODULES = sorted(
    path.relative_to(package.parent).with_suffix("").as_posix().replace("/", ".")
    for package in PACKAGES
    for path in package.rglob("*.py")
    if ">>> " in path.read_text()
)
DIRECTIVE = re.compile(r"^\.\. automodule:: (\S+)\n   :members:(.*)$", re.MULTILINE)


def documented(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions and classes that a module defines, public members of the classes, and the module itself.

    The finder of ``doctest`` misses functions whose shapes are checked: they are wrapped in another module.
    """
    yield module.__name__, module
    for name, found in list(vars(module).items()):  # an example may import more
        if getattr(found, "__module__", None) == module.__name__ and (inspect.isclass(found) or callable(found)):
            yield name, found
            members = vars(found).items() if inspect.isclass(found) else ()
            for part, member in members:  # but not what another module defined
                if not part.startswith("__") and getattr(member, "__module__", module.__name__) == module.__name__:
                    yield f"{name}.{part}", member


def examples(found: Any) -> list[doctest.Example]:
    text = getattr(found, "__doc__", None)
    return doctest.DocTestParser().get_examples(text) if isinstance(text, str) else []


@cache
def shared() -> dict[str, Any]:
    """What all examples may use: what the lines on the API page define."""
    (lines,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "book" / "api.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(lines, names)
    return names


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name: str, tmp_path: Path) -> None:
    module = importlib.import_module(name)
    runner, said, tried = doctest.DocTestRunner(verbose=False), list[str](), 0
    for place, found in documented(module):
        if shown := examples(found):
            tried += 1
            own = {"model": copy.deepcopy(shared()["model"]), "folder": tmp_path / str(tried)}  # for it to change
            own["folder"].mkdir()
            private = place.startswith("_")  # no reader comes across it
            starred = {n: value for n, value in vars(module).items() if private or not n.startswith("_")}
            test = doctest.DocTest(shown, starred | shared() | own, place, module.__file__, None, found.__doc__)
            torch.manual_seed(0)
            runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
    assert tried, "there are examples, but in no docstring of a function, class or module"


@pytest.mark.parametrize("page", [p for p in sorted((ROOT / "book").glob("api*.md")) if ">>> " in p.read_text()])
def test_examples_between_them_give_what_they_show(page: Path) -> None:
    shown = "\n".join(re.findall(r"^```python\n(>>> .*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
    test = doctest.DocTest(
        doctest.DocTestParser().get_examples(shown), dict(shared()), page.name, str(page), None, shown
    )
    said: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(test, out=said.append).attempted
    assert not said, "".join(said)


def on_the_pages() -> dict[str, list[str]]:
    """The modules of the API pages, and of each the names that are shown; all public ones if none is given."""
    pages = "".join(page.read_text() for page in sorted((ROOT / "book").glob("api*.md")))
    return {module: [n.strip() for n in names.split(",") if n.strip()] for module, names in DIRECTIVE.findall(pages)}


def test_everything_that_the_package_exports_is_on_a_page() -> None:
    shown = on_the_pages()
    for name in atrank_lib.__all__:
        module = getattr(getattr(atrank_lib, name), "__module__", "atrank_lib.training")  # a constant
        assert module in shown, f"{name} of {module}"
        assert not shown[module] or name in shown[module]


@pytest.mark.parametrize("name", sorted(on_the_pages()))
def test_everything_public_has_an_example(name: str) -> None:
    module, shown = importlib.import_module(name), on_the_pages()[name]
    for place, found in documented(module):
        is_public = not place.startswith("_") and "." not in place and (not shown or place in shown)
        if is_public and (not inspect.isclass(found) or place in atrank_lib.__all__ or shown):
            assert examples(found), f"{name}.{place} has no example"
