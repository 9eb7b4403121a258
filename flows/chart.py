"""Chart of models by their metrics: quality against cost, with latency as colour."""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from src.records.evaluation import is_metric
from src.rendering.markdown import Markdown
from src.rendering.text import one_line

__all__ = ["Point", "as_image", "scatter"]

WIDTH, HEIGHT, MARGIN = 720, 420, 70
TICKS = 5
LABELS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One model: `cost_per_1k_tokens` in US dollars, `latency_ms` in milliseconds."""

    name: str
    quality: float
    cost: float
    latency: float

    @classmethod
    def from_metrics(cls, name: str, metrics: Mapping[str, Any]) -> "Point | None":
        """Return the point of a model; `None` if one of its metrics is not a finite number."""
        quality, cost, latency = map(
            metrics.get, ("quality_score", "cost_per_1k_tokens", "latency_ms")
        )
        if not (is_metric(quality) and is_metric(cost) and is_metric(latency)):
            return None
        return cls(name=name, quality=float(quality), cost=float(cost), latency=float(latency))


def scatter(points: list[Point]) -> str:
    """Draw models as an SVG: higher is better, left is cheaper, green is faster, red is slower.

    Args:
        points: At least one. The first twelve have a label, the others a tooltip.
    """
    x = _Scale([point.cost for point in points], MARGIN, WIDTH - MARGIN)
    y = _Scale([point.quality for point in points], HEIGHT - MARGIN, MARGIN)
    hue = _Scale([point.latency for point in points], 140, 0)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="white"/>',
        *(_tick_x(cost, x(cost)) for cost in x.ticks),
        *(_tick_y(quality, y(quality)) for quality in y.ticks),
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 15}" text-anchor="middle">'
        "cost per 1k tokens, US dollars</text>",
        f'<text transform="translate(15 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        "quality score</text>",
        f'<text x="{WIDTH - 10}" y="20" text-anchor="end">'
        f"latency: green {hue.low:g} ms, red {hue.high:g} ms</text>",
    ]
    for index, point in enumerate(points):
        name, px, py = _text(point.name), x(point.cost), y(point.quality)
        lines.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="6" '
            f'fill="hsl({hue(point.latency):.0f} 70% 45%)" fill-opacity="0.8">'
            f"<title>{name}: quality {point.quality:g}, cost {point.cost:g}, "
            f"latency {point.latency:g} ms</title></circle>"
        )
        if index >= LABELS:
            continue
        side, anchor = (-10, "end") if px > WIDTH / 2 else (10, "start")
        lines.append(
            f'<text x="{px + side:.1f}" y="{py + 4:.1f}" text-anchor="{anchor}">{name}</text>'
        )
    return "\n".join([*lines, "</svg>"])


def as_image(svg: str, alt: str) -> Markdown:
    """Return an SVG as an image in Markdown, with its data inline; `alt` is a constant."""
    data = base64.b64encode(svg.encode()).decode()
    return Markdown(f"![{alt}](data:image/svg+xml;base64,{data})")


def _text(value: str) -> str:
    """Return text for the content of an XML element."""
    return escape(one_line(value))


class _Scale:
    """Linear scale from values to coordinates."""

    def __init__(self, values: list[float], start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = min(values), max(values), start, end

    def __call__(self, value: float) -> float:
        if self.high == self.low:
            return (self.start + self.end) / 2
        span, distance = self.high - self.low, value - self.low
        if math.isinf(span):
            span, distance = self.high / 2 - self.low / 2, value / 2 - self.low / 2
        return self.start + distance / span * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        steps = range(TICKS) if self.high > self.low else range(1)
        shares = [step / (TICKS - 1) for step in steps]
        return [self.low * (1 - share) + self.high * share for share in shares]


def _tick_x(value: float, x: float) -> str:
    return (
        f'<line x1="{x:.1f}" y1="{MARGIN - 15}" x2="{x:.1f}" y2="{HEIGHT - MARGIN + 10}" '
        f'stroke="#ddd"/><text x="{x:.1f}" y="{HEIGHT - MARGIN + 25}" text-anchor="middle">'
        f"{value:.4g}</text>"
    )


def _tick_y(value: float, y: float) -> str:
    label = f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"
    return (
        f'<line x1="{MARGIN - 10}" y1="{y:.1f}" x2="{WIDTH - MARGIN + 15}" y2="{y:.1f}" '
        f'stroke="#ddd"/><text x="{MARGIN - 15}" y="{y + 4:.1f}" text-anchor="end">'
        f"{label}</text>"
    )
