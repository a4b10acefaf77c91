"""The examples in the docstrings run as they stand, and everything on the API pages has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import pytest

import atrank_lib
from data_scripts import simulate
from tools.project import ROOT

MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "atrank_lib").rglob("*.py")
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
            yield from ((f"{name}.{part}", member) for part, member in members if not part.startswith("__"))


def examples(found: Any) -> list[doctest.Example]:
    text = getattr(found, "__doc__", None)
    return doctest.DocTestParser().get_examples(text) if isinstance(text, str) else []


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "simulate", simulated)
    module = importlib.import_module(name)
    runner, said = doctest.DocTestRunner(verbose=False), list[str]()
    for place, found in documented(module):
        if shown := examples(found):
            test = doctest.DocTest(shown, dict(vars(module)), place, module.__file__, None, found.__doc__)
            runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)


SIMULATE = simulate.simulate


@cache
def market(users: int) -> simulate.Marketplace:
    return SIMULATE(simulate.MarketplaceConfig(users=users))


def simulated(config: simulate.MarketplaceConfig) -> simulate.Marketplace:
    """The same small marketplace for all examples."""
    assert config == simulate.MarketplaceConfig(users=config.users)
    return market(config.users)


def on_the_pages() -> dict[str, list[str]]:
    """The modules of the API pages, and of each the names that are shown; all public ones if none is given."""
    pages = "".join(page.read_text() for page in sorted((ROOT / "book").glob("api*.md")))
    return {module: [n.strip() for n in names.split(",") if n.strip()] for module, names in DIRECTIVE.findall(pages)}


def test_everything_that_the_package_exports_is_on_a_page() -> None:
    shown = on_the_pages()
    for name in atrank_lib.__all__:
        module = getattr(getattr(atrank_lib, name), "__module__", "atrank_lib.recipes")  # a constant
        assert module in shown, f"{name} of {module}"
        assert not shown[module] or name in shown[module]


@pytest.mark.parametrize("name", sorted(on_the_pages()))
def test_everything_public_has_an_example(name: str) -> None:
    module, shown = importlib.import_module(name), on_the_pages()[name]
    for place, found in documented(module):
        is_public = not place.startswith("_") and "." not in place and (not shown or place in shown)
        if is_public and (not inspect.isclass(found) or place in atrank_lib.__all__ or shown):
            assert examples(found), f"{name}.{place} has no example"
