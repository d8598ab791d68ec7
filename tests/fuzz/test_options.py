"""Options: every setting of every command is what its annotation and its documentation say, or is refused by name."""

from __future__ import annotations

import io
import types
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import MISSING, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lssvwm_env.cli import _COMMANDS, main
from tests.fuzz.junk import HOSTILE, either, floats, integers, is_integer, texts, values
from tests.fuzz.laws import Tally, attempt, fuzzed

SHARES: Final = (
    *(
        "event_share",
        "retraced",
        "start_share",
        "cooldown",
        "ema",
        "validation",
        "explore",
        "gamma",
        "lambda_",
        "slow",
        "spread",
    ),
    *("action_probs", "clip_range"),
)
ALTERNATIVES: Final = {"MakeConfig": {"env_id": "x"}}  # of which one is needed, though none is
MAY_BE_ZERO: Final = ("seed", "seeds", "films", "questions")


def required(hint: Any) -> Any:
    """Something right for a setting without a default."""
    if is_dataclass(hint):
        return example(hint)
    if get_origin(hint) is Literal:
        return get_args(hint)[0]
    return {int: 64, str: "x", Path: Path("x")}[hint]


def example(kind: Any) -> Any:
    """A right configuration."""
    hints = get_type_hints(kind)
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    return kind(**{name: required(hints[name]) for name in needed}, **ALTERNATIVES.get(kind.__name__, {}))


def parts(kind: Any) -> Iterator[Any]:
    """A class of configurations, and those of its parts."""
    yield kind
    for hint in get_type_hints(kind).values():
        if is_dataclass(hint):
            yield from parts(hint)


def configurations() -> dict[str, Any]:
    """All classes of configurations, by name."""
    roots = [getattr(import_module(module), name) for module, _, name, _ in _COMMANDS.values()]
    return {kind.__name__: kind for root in roots for kind in parts(root) if fields(kind)}


def is_right(hint: Any, name: str, value: Any) -> bool:
    """Whether a setting may be this: of the type annotated, finite, and no less or more than makes sense."""
    origin = get_origin(hint)
    args = get_args(hint)
    if origin in (Union, types.UnionType):
        return any(is_right(option, name, value) for option in args)
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in args)
    if origin is tuple:
        if not isinstance(value, tuple) or not (args[-1] is Ellipsis or len(args) == len(value)):
            return False
        return all(is_right(args[0], name, item) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(key, str) and any(_is_plain(option, part) for option in get_args(args[1]))
            for key, part in value.items()
        )
    if hint in (int, float) and not _is_plain(hint, value):
        return False
    if hint is int:
        return value >= (0 if name in MAY_BE_ZERO else 1)
    if hint is float:
        return 0 <= value <= (1 if name in SHARES else 1e300)
    return isinstance(value, hint)


def _is_plain(hint: Any, value: Any) -> bool:
    if hint is int:
        return is_integer(value)
    if hint is float:
        return is_integer(value, -(10**300), 10**300) or (isinstance(value, float) and abs(value) <= 1.8e308)
    return isinstance(value, hint)


def are_right(config: Any) -> bool:
    """Whether all settings of a configuration are right."""
    hints = get_type_hints(type(config))
    return all(
        are_right(value) if is_dataclass(value) else is_right(hints[field.name], field.name, value)
        for field in fields(config)
        for value in [getattr(config, field.name)]
    )


def settings_of(kind: Any) -> st.SearchStrategy[tuple[str, Any]]:
    """A setting, and what to set it to."""
    one = either(integers, floats, texts)
    several = st.lists(one, max_size=5).map(tuple)
    named = st.dictionaries(texts, either(one, values), max_size=2)
    any_of = either(one, one, several, named, texts.map(Path), values)
    return st.tuples(st.sampled_from([field.name for field in fields(kind)]), any_of)


@pytest.mark.parametrize("name", sorted(configurations()))
def test_wrong_settings_are_refused_by_name(name: str, tally: Tally) -> None:
    kind = configurations()[name]
    hints = get_type_hints(kind)
    right = example(kind)

    @fuzzed(6)
    @given(settings_of(kind))
    def obeys(setting: tuple[str, Any]) -> None:
        field, value = setting
        legal = isinstance(value, hints[field]) if is_dataclass(hints[field]) else is_right(hints[field], field, value)
        attempt(tally, lambda: replace(right, **{field: value}), (field,), legal)

    obeys()


def words_of(config: Any, prefix: str = "") -> dict[str, Any]:
    """The options of a configuration, by their words, and whether they have a default."""
    found: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        flag = f"{prefix}{field.name.rstrip('_')}".replace("_", "-")
        if is_dataclass(value):
            # These two are spelled without a prefix, see TrainConfig and ImagineConfig.
            found |= words_of(value, "" if field.name in ("training", "imagination") else f"{flag}.")
        else:
            found[flag] = field.default is MISSING and field.default_factory is MISSING
    return found


NUMBERS: Final = ("nan", "inf", "-inf", "-1", "0", "1", "2.5", "1e400", "1_0", "0x10", "7" * 5000)
WORDS: Final = (*NUMBERS, "True", "None", "[]", "{}", "()", "--x", "\udcff")


@st.composite
def commands(draw: st.DrawFn) -> tuple[str, list[str], str]:
    """A command, its words, and the option that is tried."""
    command = draw(st.sampled_from([name for name, row in _COMMANDS.items() if name != "list"]))
    module, _, name, _ = _COMMANDS[command]
    options = words_of(example(getattr(import_module(module), name)))
    tried = draw(st.sampled_from(list(options)))
    word = draw(st.sampled_from((*WORDS, *HOSTILE)) | st.text(max_size=4))
    given = {flag: "64" if flag == "frames" else "x" for flag, needed in options.items() if needed and flag != tried}
    words = [word for flag, value in given.items() for word in (f"--{flag}", value)]
    more = draw(st.lists(st.sampled_from(WORDS), max_size=1))
    forms = ([f"--{tried}", word, *more], [f"--{tried}={word}"], [f"--{tried}"], [f"--no-{tried}"])
    return command, [*words, *draw(st.sampled_from(forms))], tried


def test_wrong_words_on_the_command_line_are_refused_in_plain_words(
    tally: Tally, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    taken: list[Any] = []
    for module, function, _, _ in _COMMANDS.values():
        monkeypatch.setattr(f"{module}.{function}", taken.append)

    def run(command: str, words: list[str]) -> Any:
        taken.clear()
        out, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(errors):
            try:
                status = main([*command.split(), *words])
            except SystemExit as end:  # of the parser
                status = end.code
        said = " ".join(errors.getvalue().replace("│", " ").split())
        if "Traceback" in said or status not in (0, 1, 2):
            raise RuntimeError(f"status {status}: {said}")
        if status:
            raise ValueError(said)
        return taken[0] if taken else None  # it was asked for help

    @fuzzed(8)
    @given(commands())
    def obeys(case: tuple[str, list[str], str]) -> None:
        command, words, tried = case
        names = (f"--{tried}", tried.split(".")[-1].replace("-", "_"), "Unrecognized options")
        attempt(tally, lambda: run(command, words), names, lambda config: config is None or are_right(config))

    obeys()
