"""What pages refer to is there: files, tests, links, names of the API, error messages."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
BUNDLED: Final = ROOT / "lssvwm_env" / "bundled"
PAGES: Final = sorted(
    [*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md"))]
)
ROOMS: Final = [ROOT, ROOT / "world_models" / "lssvwm_models", ROOT / "tests" / "lssvwm_models"]  # where paths begin
SITE: Final = "https://lssvwm-env.github.io/lssvwm-env/"
PROJECT: Final = "lssvwm-env/lssvwm-env"
GITHUB: Final = re.compile(rf"^https://(raw\.githubusercontent\.com/{PROJECT}|github\.com/{PROJECT}/\w+)/main/")
PACKAGES: Final = [ROOT / path for path in ("world_models", "lssvwm_env", "agents")]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_readme_is_a_door() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_example_is_in_their_readme() -> None:
    text = (ROOT / "examples" / "README.md").read_text()
    assert [path.name for path in (ROOT / "examples").glob("*.py") if f"({path.name})" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_tests_that_a_page_names_are_there(page: Path) -> None:
    for path, test in re.findall(r"(?<![\w/.-])((?:\w+/)+\w+\.py)(?:::(\w+))?", page.read_text()):
        files = [root / path for root in ROOMS if (root / path).is_file()]
        assert files, f"there is no {path}"
        assert not test or f"def {test}(" in files[0].read_text(), f"{path} has no {test}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_into_this_project_lead_to_something(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        site = link.removeprefix(SITE)
        repository = GITHUB.sub("", link)
        if site != link:
            place = site.removesuffix("/") or "index"
            places = [DOCS / f"{place}.md", BUNDLED / Path(place).name / "CARD.md"]
        elif repository != link:
            places = [ROOT / repository]
        elif "://" in link or (page.parent == DOCS / "models" and link.startswith("#")):
            continue
        else:
            places = [page.parent / link]
        assert any(path.exists() for path in places), f"{link} leads nowhere"


@pytest.mark.parametrize("page", sorted((DOCS / "api").glob("*.md")), ids=name_of)
def test_what_the_api_pages_show_can_be_imported(page: Path) -> None:
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M):
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module), attribute), f"there is no {name}"


def test_the_api_pages_show_all_that_packages_export() -> None:
    text = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    for package in ("lssvwm_env", "lssvwm_agents"):
        names = [name for name in import_module(package).__all__ if not name.startswith("_")]
        missing = [name for name in names if f"::: {package}.{name}\n" not in text]
        assert missing == [], package


def test_errors_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    said = "\n".join(message for folder in PACKAGES for path in folder.rglob("*.py") for message in messages(path))
    headings = re.findall(r"^### `(.+?)`$", (DOCS / "troubleshooting.md").read_text(), re.M)
    assert len(headings) >= 20
    assert [heading for heading in headings if heading.strip("… ") not in said] == []


def messages(path: Path) -> list[str]:
    """The strings of a module, with an ellipsis in the place of what f-strings fill in."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in parts))
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != DOCS / "tables"], ids=name_of)
def test_tables_are_short(page: Path) -> None:
    for lines in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.M):
        assert lines.count("\n") <= 12 + 2, f"draw it, and put the table behind a link: {lines[:80]}"
