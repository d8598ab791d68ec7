"""Hooks of MkDocs: pages that are files elsewhere in the repository, and links out of `docs/`.

A page is written for readers on GitHub, where links between files of the repository work as they are. On the site, a
link to a file that is no page leads to GitHub.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
BUNDLED: Final = ROOT / "lssvwm_env" / "bundled"
LINK: Final = re.compile(r"\]\((?!\w+:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
CODE: Final = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def elsewhere() -> dict[str, str]:
    """Files of the site that lie outside `docs/`: from their place on the site to that in the repository."""
    pages = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
    for card in sorted(BUNDLED.glob("*/CARD.md")):
        folder = card.parent.relative_to(ROOT).as_posix()
        pages[f"models/{card.parent.name}.md"] = f"{folder}/CARD.md"
        pages[f"models/{card.parent.name}/curves.png"] = f"{folder}/curves.png"
    return pages


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that lie elsewhere."""
    for page, path in elsewhere().items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to where their files are on the site, or else on GitHub."""
    here = page.file.src_uri
    source = elsewhere().get(here, f"docs/{here}")

    def led(link: re.Match[str]) -> str:
        return f"]({target(link['path'], source, here, config)}{link['anchor'] or ''})"

    parts = CODE.split(markdown)
    parts[::2] = [LINK.sub(led, words) for words in parts[::2]]
    return "".join(parts)


def target(path: str, source: str, here: str, config: MkDocsConfig) -> str:
    """Where a link of the page `here`, written in the file `source` of the repository, leads to."""
    linked = os.path.normpath(PurePosixPath(source).parent / path)
    on_site = {repository: page for page, repository in elsewhere().items()}
    place = linked.removeprefix("docs/") if linked.startswith("docs/") else on_site.get(linked)
    if place is None:
        return f"{config.repo_url}/blob/main/{linked}"
    return os.path.relpath(place, PurePosixPath(here).parent)
