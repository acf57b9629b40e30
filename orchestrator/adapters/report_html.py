"""Making one self-contained HTML page of a report. Runs on the login node; writes nothing.

The page loads nothing: style, scripts and data stand in it, and its Content-Security-Policy allows
no request and no script but these, by their hashes. Plotly's JavaScript is read from the package's
files, without importing it, and left out where there is no figure to draw.

Whatever strangers wrote is escaped: by Jinja2 (autoescape) in HTML; in JSON blocks, which are data
and never run, by spelling ``< > &`` and everything beyond ASCII by its code. The page's scripts
set texts only by ``textContent``.

Style attributes are allowed, since Plotly sets them; without a request they can do no harm.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.contract.errors import OrchestratorError
from orchestrator.domain.plain_text import strip_controls
from orchestrator.domain.report_document import ReportDocument

FOLDER = os.path.join(os.path.dirname(__file__), "report_page")
# In the order in which they run.
SCRIPTS = ("cells.js", "table.js", "compare.js", "page.js")
# Define the functions that draw figures, one file for some of them; the first by name comes first.
FIGURES = "figures"
_SCRIPT_END = re.compile(r"<(?=/script|!--)", re.IGNORECASE)
_UNSAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


@dataclass(frozen=True)
class Assets:
    """What every page is made of."""

    css: str
    """Its style."""
    theme: str
    """The script that sets light or dark before anything is drawn."""
    scripts: Sequence[str]
    """Scripts of the page."""
    figures: Sequence[str]
    """Scripts with the functions that draw figures."""
    plotly: str
    """Plotly's JavaScript."""


def read_assets() -> Assets:
    """Read the files that pages are made of.

    Raises:
        OrchestratorError: The installation is not whole.
    """
    plotly = importlib.util.find_spec("plotly")  # finds it without importing it
    folders = list(plotly.submodule_search_locations or ()) if plotly is not None else []
    if not folders:
        raise OrchestratorError("the package plotly is not installed; make setup installs it")
    try:
        return Assets(
            css=_read(f"{FOLDER}/page.css"),
            theme=_read(f"{FOLDER}/theme.js"),
            scripts=[_read(f"{FOLDER}/{name}") for name in SCRIPTS],
            figures=[
                _read(f"{FOLDER}/{FIGURES}/{name}")
                for name in sorted(os.listdir(f"{FOLDER}/{FIGURES}"))
                if name.endswith(".js")
            ],
            plotly=_read(f"{folders[0]}/package_data/plotly.min.js"),
        )
    except OSError as error:
        raise OrchestratorError(f"{error.filename}: cannot be read: {error.strerror}") from None


def render_report(document: ReportDocument, assets: Assets) -> bytes:
    """Render a report as one HTML page in UTF-8."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = lambda text: strip_controls(str(text))
    is_drawn = any(not figure.data.get("reason") for figure in document.figures)
    drawing = [assets.plotly, *assets.figures] if is_drawn else []
    scripts = [_guard(text) for text in (*assets.scripts[:-1], *drawing, assets.scripts[-1])]
    theme = _guard(assets.theme)
    page = environment.get_template("page.html.j2").render(
        doc=document,
        policy=_policy([theme, *scripts]),
        css=Markup(assets.css),
        theme=Markup(theme),
        scripts=[Markup(text) for text in scripts],
        table_data=script_json(document.table),
        figures=[(figure, script_json(figure.data)) for figure in document.figures],
        has_failures=bool(document.failures),
    )
    return page.encode("utf-8", "backslashreplace")


def script_json(value: Any) -> Markup:
    """Spell a value as JSON that can stand in a script element, whatever is in it.

    ``<``, ``>`` and ``&`` would end the element or begin a comment; U+2028 and all else beyond
    ASCII is spelled by ``json`` itself. They occur within strings only. Not-a-number and infinity,
    which JSON does not know, are a programmer's mistake.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_UNSAFE))


def _guard(script: str) -> str:
    """Make a script safe to stand in its element: of ours, ``<`` there is within strings."""
    # A parser of HTML turns CR into LF, and the policy's hash would not match.
    script = script.replace("\r\n", "\n").replace("\r", "\n")
    return _SCRIPT_END.sub("\\\\x3c", script)


def _policy(scripts: Sequence[str]) -> str:
    """Return the policy that allows these scripts and no request."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _read(path: str) -> str:
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()
