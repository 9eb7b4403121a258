"""The HTML file of the report, from its template."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from src.artifacts import Artifacts
from src.environment import now
from src.rendering import html
from src.report.charts import chart_specs, check_extra, javascript
from src.report.content import page_content
from src.report.reading import read_files
from src.storage import StorePath

__all__ = ["Report", "render_page", "write_report"]

TEMPLATE = Path(__file__).parent / "template"
SCRIPTS = ("elements.js", "models.js", "charts.js", "lineage.js", "panel.js", "main.js")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A report that was written.

    Attributes:
        path: The file.
        models: The number of models.
        size: The size of the file in bytes.
        faults: One sentence for each file that could not be read.
    """

    path: StorePath
    models: int
    size: int
    faults: tuple[str, ...]


def write_report(artifacts: Artifacts, path: StorePath) -> Report:
    """Write all models of an artifacts root to an HTML file, whole or not at all.

    Raises:
        ExtraMissingError: The extra `report` is not installed.
        OSError: The artifacts root cannot be read, or the file cannot be written; an old file is
            unchanged.
    """
    check_extra()
    files = read_files(artifacts)
    data = render_page(page_content(files, now()), chart_specs(), javascript()).encode()
    path.replace(data)
    return Report(
        path=path, models=len(files.models), size=len(data), faults=tuple(files.all_faults)
    )


def render_page(content: dict[str, Any], charts: dict[str, Any], library: str) -> str:
    """Return the HTML of the report.

    Args:
        content: See `page_content`.
        charts: See `chart_specs`.
        library: The JavaScript that draws the charts; it defines `vegaEmbed`.
    """
    page = html.script("\n".join((TEMPLATE / name).read_text() for name in SCRIPTS))
    style = (TEMPLATE / "page.css").read_text()
    scripts = f"{_csp_source(library)} {_csp_source(page)}"
    styles = _csp_source(style)
    policy = f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:"
    return Template((TEMPLATE / "page.html").read_text()).substitute(
        policy=policy,
        title=html.text(f"Models in {content['root']}"),
        style=style,
        content=html.json_data(content),
        charts=html.json_data(charts),
        library=html.script(library),
        script=page,
    )


def _csp_source(text: str) -> str:
    """Return what allows a script or a style in a Content-Security-Policy: its digest."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
