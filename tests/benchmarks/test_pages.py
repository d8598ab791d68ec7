"""Tables, templates and bounds; and the pages in docs/ say what the records say."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pages(program):
    return program("benchmarks/pages.py")


def alike(value, n):
    return {"value": value, "low": value, "high": value, "n": n}


def test_where_all_outcomes_are_alike_the_bound_is_exact(pages):
    low, high = pages.bounds(alike(1.0, 9))
    assert low == pytest.approx(0.6637, abs=1e-4) and high == 1.0  # scipy.stats.beta.ppf(0.025, 9, 1)
    low, high = pages.bounds(alike(0.0, 9))
    assert low == 0.0 and high == pytest.approx(0.3363, abs=1e-4)
    assert pages.bounds(alike(1.0, 1))[0] == pytest.approx(0.025)


def test_outcomes_of_one_sequence_are_not_counted_as_independent(pages):
    of_two = pages.bounds(alike(1.0, 500), sequences=2)
    assert of_two == pages.bounds(alike(1.0, 2))
    assert pages.bounds(alike(1.0, 3), sequences=32) == pages.bounds(alike(1.0, 3))  # no more sequences than outcomes


@pytest.mark.parametrize(
    "estimate",
    [
        {"value": 0.9, "low": 0.8, "high": 1.0, "n": 9},
        {"value": 1.0, "low": 0.98, "high": 1.0, "n": 200},
        alike(0.5, 9),
        alike(44.1, 9),
    ],
)
def test_other_intervals_are_left_as_they_were_recorded(pages, estimate):
    assert pages.bounds(estimate) == (estimate["low"], estimate["high"])


def test_an_estimate_is_shown_with_its_bounds(pages):
    assert pages.show(alike(1.0, 9), count=True) == "100.0 [66.4, 100.0] n=9"
    assert pages.show(alike(1.0, 9), interval=False) == "100.0"
    assert pages.show(alike(1.0, 90), digits=2, sequences=9) == "100.00 [66.37, 100.00]"
    assert pages.show({"value": 20.0, "low": 19.0, "high": 21.5, "n": 9}, 1) == "20.0 [19.0, 21.5]"
    assert pages.show({"value": None, "low": None, "high": None, "n": 0}, count=True) == "-"


def test_sections_that_lack_a_part_are_left_out(pages):
    text = pages.filled("# A\n\n## B\n\n{one}\n\n## C\n\n{one} {two}\n", {"one": "1"})
    assert text == "# A\n\n## B\n\n1\n"


@pytest.fixture
def made(program, tmp_path, monkeypatch):
    """The pages, made anew of copies of the records; of pictures there are the names only."""
    records, out = tmp_path / "records", tmp_path / "docs"
    shutil.copytree(ROOT / "benchmarks" / "records", records)
    (out / "img").mkdir(parents=True)
    for path in (ROOT / "docs" / "img").glob("*"):
        (out / "img" / path.name).touch()
    for name, args in {
        "results": {"records": records, "out": out},
        "agent_results": {"records": records / "agents", "out": out},
        "speed_results": {"records": records, "docs": out},
    }.items():
        module = program(f"benchmarks/{name}.py")
        monkeypatch.setattr(module, "png", lambda figure, dpi: b"")  # to draw takes most of the time
        module.main(module.Args(**args))
    return out


def test_pages_say_what_the_records_say(made):
    pages = {path.relative_to(made): path.read_text() for path in made.rglob("*.md")}
    assert {str(path) for path in pages} == {
        "results.md", "agents.md", "speed.md", "tables/memory.md", "tables/study.md", "tables/agents.md",
        "tables/films.md",
    }  # fmt: skip
    for path, text in pages.items():
        assert (ROOT / "docs" / path).read_text() == text, f"docs/{path}: run recipes/pages.sh"


@pytest.mark.parametrize("name", ["results.md", "agents.md", "speed.md"])
def test_no_table_of_a_page_has_more_than_12_rows(name):
    text = (ROOT / "docs" / name).read_text()
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert tables and all(len(rows) - 2 <= 12 for rows in tables)


@pytest.mark.parametrize("name", ["results.md", "agents.md", "speed.md", "tables/films.md", "tables/agents.md"])
def test_what_a_page_links_to_is_there(name):
    page = ROOT / "docs" / name
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_picture_is_kept_once(program):
    contents = {}
    for path in (ROOT / "docs" / "img").iterdir():
        contents.setdefault(path.read_bytes(), []).append(path.name)
    assert all(len(names) == 1 for names in contents.values())
