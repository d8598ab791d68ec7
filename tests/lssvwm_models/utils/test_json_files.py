"""JSON is strict when written, and one thing when read."""

import json
from dataclasses import dataclass

import pytest

from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.json_files import DEEPEST, MOST_BYTES, from_json, parse_json, read_json, write_json


@dataclass(frozen=True)
class Inner:
    size: int

    def __post_init__(self):
        check_fields(self, size=1)


@dataclass(frozen=True)
class Outer:
    inner: Inner
    name: str
    pairs: tuple[tuple[int, float], ...] = ()
    extra: dict[str, int] | None = None


def test_what_is_written_is_read_again(tmp_path):
    value = {"a": [1, 2.5, None, True, "é"], "b": {}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value == json.loads((tmp_path / "x.json").read_text())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_json_is_not_written_and_leaves_the_file_as_it_was(tmp_path, number):
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(ValueError, match="x.json is not written, as JSON has no such number"):
        write_json(tmp_path / "x.json", {"a": [number]})
    assert read_json(tmp_path / "x.json") == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ('[{"b": {"a": 1, "a": 1}}]', "the key 'a' is there twice"),
        ("[NaN]", "NaN is no JSON"),
        ("1e400", "the number '1e400' is too large"),
        ("-1e999", "too large"),
        ("9" * 5000, "4300 digits"),
        ("[" * 100_000, "nested deeper than 32"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 32"),
        ('{"a":' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1), "nested deeper than 32"),
        (r'"\ud800"', "surrogates not allowed"),
        (b"\xff\xfe", "can't decode"),
    ],
    ids=range(12),
)
def test_what_is_no_strict_json_is_refused_by_name(tmp_path, text, reason):
    (tmp_path / "x.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"x.json is not JSON that can be read: .*{reason}"):
        read_json(tmp_path / "x.json")


def test_the_deepest_that_is_read_is_read():
    assert json.dumps(parse_json("[" * DEEPEST + "]" * DEEPEST, "x")) == "[" * DEEPEST + "]" * DEEPEST


def test_infinities_of_older_files_are_read_as_texts():
    assert parse_json("[Infinity, -Infinity]", "x") == ["inf", "-inf"]


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "x.json", "wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ValueError, match=r"x.json has 16,000,001 bytes; expected at most 16,000,000"):
        read_json(tmp_path / "x.json")


def test_types_are_kept():
    value = from_json(tuple[tuple[int, float], ...], json.loads("[[1, 2], [3, 4.5]]"), "x")
    assert value == ((1, 2.0), (3, 4.5)) and type(value[0][1]) is float
    assert from_json(int | None, None, "x") is None
    content = {"inner": {"size": 2}, "name": "n", "pairs": [[1, 2]], "extra": {"a": 1}}
    assert from_json(Outer, content, "x") == Outer(Inner(2), "n", ((1, 2.0),), {"a": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner": 3}, "x.inner is 3; expected of type Inner"),
        ({"inner": {}}, "x.inner lacks size"),
        ({"inner": {"size": True}}, "x.inner.size is True; expected an integer"),
        ({"inner": {"size": 2.0}}, "x.inner.size is 2.0; expected an integer"),
        ({"inner": {"size": 0}}, "x.inner: size=0 must be at least 1"),
        ({"inner": {"size": 10**13}}, "x.inner: size=10000000000000 must be at most 1000000000000"),
        ({"name": None}, "x.name is None; expected a text"),
        ({"pairs": {}}, "x.pairs is {}; expected"),
        ({"pairs": [[1, 2, 3]]}, r"x.pairs\[0\] is \[1, 2, 3\]; expected"),
        ({"pairs": [[1, 10**400]]}, r"x.pairs\[0\]\[1\] is 10+\.\.\.; expected a finite number"),
        ({"extra": {"a": "b"}}, "x.extra is {'a': 'b'}; expected"),
        ({"color": 1}, "x has the unknown field 'color'"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        from_json(Outer, {"inner": {"size": 2}, "name": "n"} | changes, "x")
