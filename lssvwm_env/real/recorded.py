"""Real environments that files name, whoever wrote them: no code runs that the user did not ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from lssvwm_env.real.minigrid import PixelMiniGrid
from lssvwm_env.real.pixels import PixelEnv, make_real


class Recorded(Protocol):
    """What a simulator's `config.json` or a dataset's `dataset.json` says of the real environment."""

    @property
    def env_id(self) -> str:
        """As for `make_real`."""

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """As for `make_real`."""


def trusted_id(recorded: Recorded, typed: str | None = None) -> str:
    """The id of a recorded environment, if to make it runs no code but that of environments registered already.

    An id "module:name" imports its module, from wherever Python is run, too. So may an environment that itself makes
    another, whose id it is given: texts in its arguments count as ids.

    Args:
        recorded: What a file says.
        typed: The id as the user has typed it, which says that the user trusts it.

    Raises:
        ValueError: If it must be typed, or another one was.
    """
    env_id = recorded.env_id
    if typed not in (None, env_id):
        raise ValueError(f"env_id={typed!r}, but the file is of {env_id!r}: say that, or leave it out")
    if typed is None and any(":" in text for text in (env_id, *_texts(recorded.env_kwargs))):
        arguments = f" with {recorded.env_kwargs!r}" if recorded.env_kwargs else ""
        raise ValueError(
            f"the file is of the environment {env_id!r}{arguments}, and to make that, a module is imported that the "
            f"file names. If you trust it, say so: --env-id {env_id!r} (in Python: env_id={env_id!r})"
        )
    return env_id


def make_recorded(recorded: Recorded, typed: str | None = None) -> PixelEnv | PixelMiniGrid:
    """The real environment that a file names; see `trusted_id`.

    Raises:
        ValueError: If it is not trusted, or cannot be made as the file says.
    """
    env_id = trusted_id(recorded, typed)
    try:
        return make_real(env_id, **recorded.env_kwargs)
    except (TypeError, AssertionError, LookupError) as error:  # of arguments that nobody here has chosen
        raise ValueError(f"{env_id} cannot be made with {recorded.env_kwargs!r}: {error}") from error


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
