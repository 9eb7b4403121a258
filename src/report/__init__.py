"""The report: all models of an artifacts root as one HTML file that needs no network.

`reading` reads the files, `content` turns them into plain values (pure), `charts` has the charts
and their JavaScript (the extra `report`), `page` puts all of it into the template.
"""

from src.report.page import Report, write_report

__all__ = ["Report", "write_report"]
