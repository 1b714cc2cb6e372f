"""Sphinx: pages in Markdown, the Python API from its docstrings. `make docs` builds it, with warnings as errors."""

project = "cpsc-tune"
author = "the cpsc-tune authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3  # links to headings as GitHub writes them
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
html_title = "cpsc-tune"
html_static_path: list[str] = []
autodoc_typehints = "signature"
nitpicky = False  # signatures name types of libraries whose inventories are not downloaded
