"""Charts of the report, as Vega-Lite, and the JavaScript that draws them: the extra `report`.

A chart has no data and no names: the page adds them. The fields have fixed names, so no text from
a record becomes a part of an expression of Vega.
"""

import re
from typing import Any

__all__ = ["ExtraMissingError", "chart_specs", "check_extra", "javascript"]

HEIGHT = 300
CLOCK = {  # the labels of times, by the distance between them
    "date": "%b %d",
    "hours": "%H:%M",
    "minutes": "%H:%M",
    "seconds": "%H:%M:%S",
    "milliseconds": "%H:%M:%S.%L",
}
HOW_TO_INSTALL = (
    "The report needs altair, which is not installed. `make report` installs it and writes the "
    "report; or run `pip install --require-hashes -r requirements/report.lock`."
)


class ExtraMissingError(ValueError):
    """Raised when the extra `report` is not installed."""


def check_extra() -> None:
    """Check that the extra `report` is installed; import nothing.

    Raises:
        ExtraMissingError: It is not; the message says how to install it.
    """
    from importlib.util import find_spec

    if not (find_spec("altair") and find_spec("vl_convert")):
        raise ExtraMissingError(HOW_TO_INSTALL)


def chart_specs() -> dict[str, Any]:
    """Return the charts by name: `scatter`, `times` and `losses`."""
    import altair

    points = altair.Chart(altair.NamedData("points")).properties(width="container", height=HEIGHT)
    dots = points.mark_circle(size=55, opacity=0.75, cursor="pointer")
    lines = points.mark_line(strokeWidth=1.8)

    scale = altair.Scale(zero=False, padding=14)  # pixels: no point is cut off
    x, y = altair.X("x:Q", scale=scale), altair.Y("y:Q", scale=scale)
    times_scale, clock = altair.Scale(type="utc", padding=14), altair.Axis(format=CLOCK)
    time = altair.X("time:T", title="UTC", scale=times_scale, axis=clock)
    common = {
        "color": altair.Color("series:N", title=None, sort=None),
        "tooltip": altair.Tooltip("version:N"),  # the page shows more, if a mark has one
    }
    ring = altair.condition("datum.chosen", altair.value(2.5), altair.value(0))
    scatter = dots.encode(x=x, y=y, strokeWidth=ring, **common)
    times = dots.encode(x=time, y=y, strokeWidth=ring, **common)
    losses = lines.encode(x=x.title("step"), y=y.title("loss"), **common)
    # The wheel alone scrolls the page.
    zoom = altair.selection_interval(bind="scales", zoom="wheel![event.ctrlKey || event.metaKey]")
    charts = {"scatter": scatter, "times": times, "losses": losses}
    return {name: chart.add_params(zoom).to_dict() for name, chart in charts.items()}


def javascript() -> str:
    """Return the source of Vega, Vega-Lite and Vega-Embed, which needs no network."""
    import altair
    import vl_convert

    [version] = re.findall(r"^v\d+\.\d+", altair.SCHEMA_VERSION)
    return str(vl_convert.javascript_bundle(vl_version=version))
