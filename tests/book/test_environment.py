"""One set of versions: pyproject.toml, constraints.txt, environment.yml and the Makefile agree."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.project import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
REQUIREMENTS = [
    Requirement(text)
    for texts in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for text in texts
    if Requirement(text).name != PROJECT["name"]
]


@pytest.fixture(scope="module")
def pinned() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    requirements = [Requirement(line) for line in lines]
    assert all(re.fullmatch(r"==[^,*+]+", str(requirement.specifier)) for requirement in requirements)
    names = [canonicalize_name(requirement.name) for requirement in requirements]
    assert len(names) == len(set(names))
    versions = [str(requirement.specifier).removeprefix("==") for requirement in requirements]
    return dict(zip(names, versions, strict=True))


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_every_requirement_is_pinned_to_a_version_that_satisfies_it(requirement: Requirement, pinned: dict[str, str]):
    assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])


def test_constraints_hold_no_paths_indexes_or_hashes():
    text = (ROOT / "constraints.txt").read_text()
    for forbidden in ("--", "://", "sha256", "+cpu", " @ "):
        assert forbidden not in text.split("\n", 2)[2]


def test_conda_users_get_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in environment if isinstance(entry, dict))
    assert "-c constraints.txt" in pip
    editable = next(entry for entry in pip if entry.startswith("-e "))
    extras = re.fullmatch(r"-e \.\[(.*)\]", editable)
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    python = next(entry for entry in environment if isinstance(entry, str) and entry.startswith("python="))
    assert python.removeprefix("python=") in PYTHONS
    # nothing else comes from conda, or it could differ from constraints.txt
    assert {entry.split("=")[0] for entry in environment if isinstance(entry, str)} == {"python", "pip"}


def test_the_makefile_takes_torch_from_the_constraints():
    makefile = (ROOT / "Makefile").read_text()
    assert "sed -n 's/^torch==//p' constraints.txt" in makefile
    assert not re.search(r"torch==\d", makefile)


def test_every_place_that_names_pythons_names_the_same():
    assert PROJECT["requires-python"] == ">=3.11,<3.15"
    assert "(3, 11) <= sys.version_info < (3, 15)" in (ROOT / "Makefile").read_text()
    for page in ("Makefile", "README.md", "book/_ext/downloads.py"):
        assert "Python 3.11 to 3.14" in (ROOT / page).read_text(), page
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())["jobs"]
    checks = jobs["check"]["strategy"]["matrix"]["include"]
    assert {check.get("python", "3.11") for check in checks if check["part"] == "tests"} == set(PYTHONS)


def targets_of(text: str) -> set[str]:
    """The targets of all `make` commands in a text: words after `make` up to the first that is none."""
    calls = re.findall(r"\bmake((?: [A-Z]+=\S*)*(?: [a-z][a-z-]*)+)", text)
    return {word for call in calls for word in call.split() if "=" not in word}


def test_continuous_integration_runs_the_parts_of_the_makefile():
    known = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())["jobs"]
    theirs = targets_of("\n".join(check["run"] for check in jobs["check"]["strategy"]["matrix"]["include"]))
    ours = targets_of(
        "\n".join(line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("part "))
    )
    assert ours <= theirs <= known
    assert {"lint", "types", "unit", "book", "check-rebuild"} <= ours
    assert {"lint", "types", "unit", "check-book"} == targets_of(
        "make " + re.findall(r"^test: (.*)$", (ROOT / "Makefile").read_text(), re.M)[0]
    )


def test_the_wheel_holds_every_package():
    setuptools = PYPROJECT["tool"]["setuptools"]
    listed = [name.replace(".", "/") for name in setuptools["packages"]]
    for package, place in setuptools["package-dir"].items():
        listed = [name.replace(package.replace(".", "/"), place, 1) for name in listed]
    tops = ("atrank_lib", "book/atrank_book", "data_scripts", "experiments")
    packages = [path.parent for top in tops for path in (ROOT / top).rglob("__init__.py")]
    assert sorted(listed) == sorted([*(str(path.relative_to(ROOT)) for path in packages), "results"])
