"""The API pages say what the docstrings say, legibly."""

from __future__ import annotations

import html
import re

import atrank_lib
from tools.project import ROOT, Project


def text(project: Project, name: str) -> str:
    """A page without its tags."""
    return html.unescape(re.sub(r"<[^>]+>", "", (project.html / f"{name}.html").read_text()))


def test_every_exported_name_leads_to_its_entry(project: Project):
    links = dict(re.findall(r'href="(api_\w+)\.html#(atrank_lib\.[\w.]+)"', (project.html / "api.html").read_text()))
    assert set(links) == {"api_data", "api_model", "api_use"}
    page = (project.html / "api.html").read_text()
    for name in set(atrank_lib.__all__) - {"RECIPES"}:
        place = f"{getattr(atrank_lib, name).__module__}.{name}"
        found = re.search(rf'href="(api_\w+)\.html#{re.escape(place)}"', page)
        assert found, place
        assert f'id="{place}"' in (project.html / f"{found.group(1)}.html").read_text()


def test_shapes_and_fields_are_legible(project: Project):
    assert "h: Float[Tensor, 'b c d']," in text(project, "api_model")
    assert "user_ids: ArrayLike" in text(project, "api_use")
    assert "spaces – K equal spaces, or the sizes s_1 … s_K; by default 8" in text(project, "api_model")
    for name in ("api", "api_data", "api_model", "api_use"):
        for mangled in ("Annotated[", "_SupportsArray", "FieldInfo", " at 0x", str(project.root)):
            assert mangled not in text(project, name), f"{name}: {mangled}"


def test_the_policy_comes_first_and_leads_to_the_changelog(project: Project):
    paragraphs = re.findall(r"<p>(.*?)</p>", (project.html / "api.html").read_text(), re.DOTALL)
    assert any("Deprecation" in p and "changelog.html" in p for p in paragraphs[:3])
    heading = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading is not None
    assert heading.group(1) in text(project, "changelog")
