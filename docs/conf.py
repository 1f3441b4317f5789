"""Sphinx's settings. `make docs` builds the site into docs/_build; it needs no network."""

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = "sb3_attnmem"
author = "The sb3_attnmem contributors"
project_copyright = author
release = version = (ROOT / "sb3_attnmem" / "version.txt").read_text(encoding="utf-8").strip()

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]

# Markdown
myst_heading_anchors = 3

# The API reference
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autoclass_content = "class"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
# Extras that the machine lacks are only looked at, not used
autodoc_mock_imports = [
    name for name in ("onnx", "onnxruntime", "onnxscript", "rl_zoo3", "huggingface_sb3") if find_spec(name) is None
]

# Links that lead nowhere are errors, but not those into other packages: without their inventories, which would have to
# be fetched, they cannot be known
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!sb3_attnmem).*"),
    # Type variables, and what only the inner workings hold
    (
        r"py:class",
        r".*\.(SelfRecurrentDQN|AnyModel|Method|ImageShape|StackShape|Tapes|TapeBuffer|WindowShape"
        r"|GradientStep|MaskReader|MatrixMemory|Pace|StepCode)",
    ),
]

# Pages
html_theme = "sphinx_rtd_theme"
html_title = f"sb3_attnmem {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_js_files = ["sort_tables.js"]
html_copy_source = False
html_show_sphinx = False


def escaped(lines: list[str]) -> Iterator[str]:
    """
    The bars and stars of formulas in a docstring, |x| and a * b, which reStructuredText would read as its own signs.

    :param lines: of the docstring
    :return: the same, escaped outside ``literals``, *emphasis* and indented code
    """
    code_from = None  # the indent of the text around a block of code
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if code_from is not None and line.strip() and indent <= code_from:
            code_from = None
        if code_from is None:
            parts = re.split(r"(``.*?``|(?<!\w)\*\w[^*]*\w\*(?!\w))", line)
            yield "".join(part if i % 2 else re.sub(r"(?<!\\)([|*])", r"\\\1", part) for i, part in enumerate(parts))
            if line.rstrip().endswith("::"):
                code_from = indent
        else:
            yield line


def setup(app: Any) -> None:
    def escape(_app: Any, _what: str, _name: str, _of: Any, _options: Any, lines: list[str]) -> None:
        lines[:] = escaped(lines)

    app.connect("autodoc-process-docstring", escape)
