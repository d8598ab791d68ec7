"""What strangers wrote is shown as it is, and does nothing."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.table import Table

from lssvwm_env.utils.strangers import Screen, markdown, printable


def test_a_terminal_gets_nothing_that_moves_it() -> None:
    assert printable("a\x1b[2J\x07\rb\u202ec\u00a0\ud800") == r"a\x1b[2J\x07\rb\u202ec\xa0\ud800"
    assert printable("MiniGrid-S9 ünïcode 世界\nnext") == "MiniGrid-S9 ünïcode 世界\nnext"


def test_a_screen_shows_markup_in_titles_cells_and_lines_as_it_is() -> None:
    told = io.StringIO()
    screen = Screen(file=told, width=200, force_terminal=True, color_system=None)
    table = Table("[red]head", title="[bold]title :smile:", caption="[link=http://e]caption")
    table.add_row("[blink]cell\x1b[2J")
    screen.print(table)
    screen.print("[red]line[/red]\x07")
    for text in (
        "[red]head",
        "[bold]title :smile:",
        "[link=http://e]caption",
        r"[blink]cell\x1b[2J",
        r"[red]line[/red]\x07",
    ):
        assert text in told.getvalue()
    assert "\x07" not in told.getvalue() and "\x1b[2J" not in told.getvalue() and "\x1b]8" not in told.getvalue()


HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt; &#60;b",
    "[a](javascript:alert(1)) ![i](http://e/x.png)",
    "[a]: http://e\n[a]",
    "`code` ``x`` **bold** _it_ ~~no~~ # x",
    "a | b | c",
    "line\n# heading\n\n- item\n\n    code\n```\nfence",
    "http://evil.com www.evil.com a@evil.com",
    "\\`x\\` \\<b>",
    "\x1b[2J\x07\u202e",
)


def test_markdown_shows_hostile_texts_as_they_are() -> None:
    for text in HOSTILE:
        assert_plain(text)
    assert markdown("MiniGrid-MemoryS9-v0") == "MiniGrid-MemoryS9-v0"
    assert markdown("lssvwm x --a_b *", code=True) == "`lssvwm x --a_b *`"
    # GitHub makes links of these, too.
    assert markdown("http://e www.e a@e") == r"http:\/\/e www\.e a\@e"


@given(st.text(alphabet=st.sampled_from("ab1 \\`*_[](){}<>&;:/.#|~!@$-+=\"'\n\t"), max_size=30))
def test_markdown_shows_any_text_as_it_is(text: str) -> None:
    assert_plain(text)


def assert_plain(text: str) -> None:
    """In a heading, a sentence and a table the text is one piece of plain text."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    wanted = printable(text).replace("\n", " ")
    source = f"# x{markdown(text)}x\n\nx{markdown(text)}x\n\n| x{markdown(text)}x | y |\n|---|---|\n"
    inline = [token for token in parser.parse(source) if token.type == "inline"]
    assert [token.content for token in inline[3:]] == ["y"]
    for mark in "`|<>&\n":
        assert markdown(text + mark, code=True) == markdown(text + mark)
    for token in inline[:3]:
        assert {part.type for part in token.children} <= {"text", "text_special"}
        assert "".join(part.content for part in token.children) == f"x{wanted}x"
