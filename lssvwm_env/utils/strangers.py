"""What strangers wrote into files, shown as it is: on a terminal nothing moves, in Markdown nothing is marked up."""

from __future__ import annotations

import html
import re
from typing import Any, Final

from rich.console import Console
from rich.text import Text

_MARKS: Final = re.compile(r"[\\`*_\[\]|~#!@$]|(?<=:)//|(?<=[wW]{3})\.")  # the last two begin links


def printable(text: object) -> str:
    """A text with everything but letters, signs, spaces and line ends as escapes, as `repr` has them."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(text))


def markdown(text: object, *, code: bool = False) -> str:
    """A text as Markdown that shows it: in one line, and without a mark, tag, link, formula or cell of its own.

    Args:
        text: Anything's.
        code: Show it as code, unless it holds what could end the code or be taken for a tag or a cell.
    """
    if code and str(text).isprintable() and not set("`|<>&") & set(str(text)):
        return f"`{text}`"
    plain = html.escape(" ".join(printable(text).split("\n")), quote=False)
    return _MARKS.sub(lambda found: "".join(f"\\{mark}" for mark in found[0]), plain)


class Screen(Console):
    """A console that prints texts as they are: titles, cells and lines have no markup, and nothing moves the cursor."""

    def render_str(self, text: str, **how: Any) -> Text:
        """See `rich.console.Console`."""
        return super().render_str(printable(text), **how | {"markup": False, "emoji": False, "highlight": False})
