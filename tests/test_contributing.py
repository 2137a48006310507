"""The doors for who comes next: CONTRIBUTING.md, docs/api.md and the index of the decisions."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
DECISIONS = ROOT / "docs" / "decisions"
PACKAGES = ("env", "policies", "replay", "serve")
CHANGES = (
    "a source of candidates",
    "a reward component",
    "an explorer",
    "an estimator",
    "a feedback kind",
    "the market filter",
    "a field of `Item`",
    "a store",
    "an endpoint",
    "return gaps of the world",
    "a metric",
    "a policy of one's own",
)


def _section(text: str, heading: str) -> str:
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found is not None, heading
    return found[1]


def _links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)#\s]+)\)", text)


def _rows() -> dict[str, list[str]]:
    section = _section(CONTRIBUTING, "Where do I change ...")
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE)[1:]
    return {change: _links(files) for change, files in rows}


def _exports() -> list[tuple[str, list[str]]]:
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| .+ \|$", API, re.MULTILINE)
    return [(module, re.findall(r"`(\w+)`", names)) for module, names in rows]


def test_the_map_has_every_folder() -> None:
    linked = {link.rstrip("/") for link in _links(_section(CONTRIBUTING, "The map"))}
    for package in PACKAGES:
        for folder in (ROOT / package).iterdir():
            if (folder / "__init__.py").exists():
                assert f"{package}/{folder.name}" in linked, folder


def test_twelve_changes_name_five_files_at_most() -> None:
    rows = _rows()
    assert tuple(rows) == CHANGES
    assert all(1 <= len(files) <= 5 for files in rows.values()), rows


@pytest.mark.parametrize("module", [module for module, _ in _exports()])
def test_a_public_name_can_be_imported(module: str) -> None:
    found = importlib.import_module(module)
    for name in dict(_exports())[module]:
        assert getattr(found, name).__doc__ or not callable(getattr(found, name)), name


def test_the_public_surface_covers_the_packages_and_the_examples() -> None:
    modules = dict(_exports())
    assert {module.partition(".")[0] for module in modules} == set(PACKAGES)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for module, names in re.findall(r"^from ([\w.]+) import ([\w, ]+)$", readme, re.MULTILINE):
        if module.partition(".")[0] in PACKAGES:
            assert set(names.split(", ")) <= set(modules.get(module, [])), (module, names)


def test_every_decision_stands_in_the_index_under_its_title() -> None:
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[(.+)\]\((.+)\)$", index, re.MULTILINE)
    titles = {
        page.name: page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        for page in DECISIONS.glob("*.md")
        if page.name != "README.md"
    }
    assert len(listed) == len(titles)
    assert {name: title for title, name in listed} == titles


@pytest.mark.parametrize("decision", sorted(DECISIONS.glob("*.md")), ids=lambda page: page.stem)
def test_a_decision_is_linked_from_the_code_or_a_document(decision: Path) -> None:
    named = f"decisions/{decision.name}"
    texts = [*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"]
    texts += [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert any(named in text.read_text(encoding="utf-8") for text in texts)


def test_the_product_imports_neither_tests_nor_studies() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"^\s*(?:from|import) tests\b", path.read_text(), re.MULTILINE), (
                path
            )
