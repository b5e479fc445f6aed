"""How Sphinx makes a site of these documents and of the docstrings: `make docs`.

The source folder is the repository's own, so that a link leads to the same file here as where the repository is read:
`../README.md` from a page in docs, `docs/design.md` from the README.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

project = "sagajobs"
copyright = "sagajobs contributors"  # noqa: A001 - Sphinx's own name

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**"]
exclude_patterns = [".*", "build", "sagajobs", "tests", "benchmarks", "deploy", "examples"]
root_doc = "docs/index"

html_theme = "furo"
html_title = "sagajobs"
html_copy_source = False
html_show_sphinx = False

myst_heading_anchors = 3  # links to headings, by the names that forges give them
suppress_warnings = ["myst.header"]  # a changelog goes from its title to versions and kinds

default_role = "code"  # docstrings mark names with single backticks
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": True}

_LINK = re.compile(r"^- \[[^\]]+\]\(([\w/.-]+)\)", re.MULTILINE)


def _contents(_app: Sphinx, document: str, source: list[str]) -> None:
    """Give the site its table of contents: index.md's own lists, section by section."""
    if document != root_doc:
        return
    for section in source[0].split("\n## ")[1:]:
        pages = [(Path(link).with_suffix("")).as_posix() for link in _LINK.findall(section)]
        if pages:
            caption = section.partition("\n")[0]
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"


def setup(app: Sphinx) -> None:
    """Have Sphinx ask for the contents."""
    app.connect("source-read", _contents)
