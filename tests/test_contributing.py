"""The doors for who comes next: CONTRIBUTING.md, docs/api.md and the index of the decisions."""

import functools
import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
DECISIONS = ROOT / "docs" / "decisions"
PACKAGES = ("env", "policies", "replay", "serve")
HEAVY = {
    "Vowpal Wabbit": ("vowpal_wabbit_next",),
    "faiss": ("faiss",),
    "torch, RLlib": ("torch", "ray.rllib"),
    "safetensors": ("safetensors",),
    "Ray Serve": ("ray.serve",),
    "Redis": ("redis",),
    "pyarrow": ("pyarrow",),
    "Gymnasium": ("gymnasium",),
    "matplotlib, Pillow, Minari": ("matplotlib", "PIL", "minari"),
}
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


@functools.cache
def _texts_that_link() -> str:
    texts = [*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"]
    texts += [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return "\n".join(text.read_text(encoding="utf-8") for text in texts)


@pytest.mark.parametrize("decision", sorted(DECISIONS.glob("*.md")), ids=lambda page: page.stem)
def test_a_decision_is_linked_from_the_code_or_a_document(decision: Path) -> None:
    assert f"decisions/{decision.name}" in _texts_that_link()


def test_the_product_imports_neither_tests_nor_studies() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"^\s*(?:from|import) tests\b", path.read_text(), re.MULTILINE), (
                path
            )


def test_a_heavy_dependency_is_imported_where_the_design_says() -> None:
    rows = dict(re.findall(r"^\| ([\w, ]+) \| (`.+) \|$", DESIGN, re.MULTILINE))
    assert set(HEAVY) <= set(rows)
    for heavy, modules in HEAVY.items():
        doors = re.findall(r"`([^`]+)`", rows[heavy])
        names = "|".join(map(re.escape, modules))
        import_of = re.compile(rf"^\s*(?:import|from) (?:{names})\b", re.MULTILINE)
        through = {
            path.relative_to(ROOT).as_posix()
            for package in PACKAGES
            for path in (ROOT / package).rglob("*.py")
            if import_of.search(path.read_text())
        }
        assert all(any(name.startswith(door) for door in doors) for name in through), heavy
        assert all(any(name.startswith(door) for name in through) for door in doors), heavy


def test_the_paths_of_the_design_go_through_modules_that_exist() -> None:
    paths = _section(DESIGN, "Four paths")
    modules = re.findall(r"^ *((?:env|policies|replay|serve)(?:\.\w+)+)  ", paths, re.MULTILINE)
    assert len(modules) > 25
    for module in modules:
        importlib.import_module(module)


def test_the_picture_of_the_layers_has_every_folder_of_the_linter() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = {
        contract["containers"][0]: [re.split(r" \| ", each) for each in contract["layers"]]
        for contract in contracts["contracts"]
        if contract.get("containers") and len(contract["containers"]) == 1
    }
    (picture,) = re.findall(r"```\n(serve +commands.*?)```", DESIGN, re.DOTALL)
    for package in PACKAGES:
        for folder in (name for row in layers.get(package, []) for name in row):
            assert re.search(rf"\b{folder}\b", picture), (package, folder)
