"""Charts: models by quality, cost and latency; and a value by step of one or more trainings."""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

from flows.tables import shorten
from src.records.evaluation import is_metric
from src.rendering.markdown import Markdown
from src.rendering.text import one_line

__all__ = ["MAX_CURVES", "Point", "as_image", "curve", "curves", "scatter"]

WIDTH, HEIGHT, MARGIN = 720, 420, 70
TICKS = 5  # about
ROUNDING = 1e-9
RADIUS = 6
MAX_LABELS = 12
MAX_CURVE = 300
# On white, also in dark mode; each has at least the contrast of 4.5 that WCAG asks of text.
COLOURS = ("#2563eb", "#c2410c", "#0f766e", "#be185d", "#4d7c0f", "#7c3aed", "#a16207", "#475569")
MAX_CURVES = len(COLOURS)
LEGEND_ROW = 20
LABEL_LENGTH, LABEL_HEIGHT = 34, 14
LABEL_DISTANCE = 10
CHARACTER_WIDTH, WIDE_WIDTH = 7.2, 13  # at least the width in any sans-serif font


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

    Those that are best by a metric have a label, and then others in their order, as long as no
    label covers another one or a point. All have a tooltip.

    Args:
        points: At least one.
    """
    x = _Scale([point.cost for point in points], MARGIN, WIDTH - MARGIN)
    y = _Scale([point.quality for point in points], HEIGHT - MARGIN, MARGIN)
    hue = _Scale([point.latency for point in points], 140, 0)
    lines = [
        *_canvas(),
        *(_tick_x(cost, x(cost)) for cost in x.ticks),
        *(_tick_y(quality, y(quality)) for quality in y.ticks),
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 15}" text-anchor="middle">'
        "cost per 1k tokens, US dollars</text>",
        f'<text transform="translate(15 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        "quality score, no unit</text>",
        f'<text x="{WIDTH - 10}" y="20" text-anchor="end">'
        f"latency: green {hue.low:g} ms, red {hue.high:g} ms</text>",
    ]
    places = [(x(point.cost), y(point.quality)) for point in points]
    for point, (px, py) in zip(points, places, strict=True):
        lines.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{RADIUS}" '
            f'fill="hsl({hue(point.latency):.0f} 70% 45%)" fill-opacity="0.8">'
            f"<title>{_text(point.name)}: quality {point.quality:g}, cost {point.cost:g} US "
            f"dollars per 1k tokens, latency {point.latency:g} ms</title></circle>"
        )
    for name, anchor, box in _labels(points, places):
        left = box.right if anchor == "end" else box.left
        lines.append(
            f'<text x="{left:.1f}" y="{box.bottom - 3:.1f}" text-anchor="{anchor}" stroke="white" '
            f'stroke-width="3" paint-order="stroke">{_text(name)}</text>'
        )
    return "\n".join([*lines, "</svg>"])


class _Box(NamedTuple):
    """A rectangle; `top` is less than `bottom`."""

    left: float
    top: float
    right: float
    bottom: float

    def contains(self, other: "_Box") -> bool:
        """Return whether the other rectangle is inside of this one."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )

    def overlaps(self, other: "_Box") -> bool:
        """Return whether the two rectangles have a common area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


# Without the texts of the axes.
CANVAS = _Box(MARGIN - 8, 28, WIDTH - 4, HEIGHT - MARGIN + 12)


def _labels(
    points: list[Point], places: list[tuple[float, float]]
) -> Iterator[tuple[str, str, _Box]]:
    """Yield the labels that fit, each with its anchor and its place."""
    best = dict.fromkeys(_best(points))
    circles = [_Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in places]
    labels: list[_Box] = []
    for index in [*best, *(each for each in range(len(points)) if each not in best)]:
        if len(labels) == MAX_LABELS:
            return
        name = shorten(one_line(points[index].name), LABEL_LENGTH)
        found = [
            (anchor, box)
            for anchor, box in _boxes(name, *places[index])
            if CANVAS.contains(box) and not any(map(box.overlaps, labels))
        ]
        free = [each for each in found if not any(map(each[1].overlaps, circles))]
        # Among many points there may be no free place, but the best ones need a label.
        for anchor, box in free[:1] or (found[:1] if index in best else []):
            labels.append(box)
            yield name, anchor, box


def _best(points: list[Point]) -> Iterator[int]:
    """Yield the index of the point with the best quality, cost and latency."""
    indexes = range(len(points))
    yield max(indexes, key=lambda index: points[index].quality)
    yield min(indexes, key=lambda index: points[index].cost)
    yield min(indexes, key=lambda index: points[index].latency)


def _boxes(name: str, x: float, y: float) -> Iterator[tuple[str, _Box]]:
    """Yield the anchors and places for a label: right and left of its point, above, below."""
    width = sum(CHARACTER_WIDTH if each.isascii() else WIDE_WIDTH for each in name)
    middle, above = y - LABEL_HEIGHT / 2, y - LABEL_DISTANCE - LABEL_HEIGHT
    for top, distance in [
        (middle, LABEL_DISTANCE),
        (above, 0),
        (y + LABEL_DISTANCE, 0),
        (above - LABEL_HEIGHT, 0),
    ]:
        bottom = top + LABEL_HEIGHT
        yield "start", _Box(x + distance, top, x + distance + width, bottom)
        yield "end", _Box(x - distance - width, top, x - distance, bottom)


def curve(name: str, points: Sequence[tuple[int, float]]) -> str:
    """Draw a value by step as an SVG: one line, of at most `MAX_CURVE` of its points.

    Args:
        name: Name of the value, e.g. `loss`.
        points: Steps and finite values, in the order of the steps; at least one.
    """
    return "\n".join([*_canvas(), *_plot(name, [points]), "</svg>"])


def curves(name: str, models: Sequence[tuple[str, Sequence[tuple[int, float]]]]) -> str:
    """Draw a value by step of several models as an SVG: a line for each, and a legend below.

    Args:
        name: Name of the value, e.g. `loss`.
        models: The name of each model and its points, as in `curve`; from 1 to `MAX_CURVES` models.
    """
    rows = -(-len(models) // 2)
    return "\n".join(
        [
            *_canvas(HEIGHT + rows * LEGEND_ROW),
            *_plot(name, [points for _, points in models]),
            *(_legend_entry(index, model) for index, (model, _) in enumerate(models)),
            "</svg>",
        ]
    )


def _plot(name: str, lines: Sequence[Sequence[tuple[int, float]]]) -> Iterator[str]:
    """Yield the axes, and a line of each colour with a dot at its last point."""
    shown = [[*each[: -1 : -(-len(each) // MAX_CURVE)], each[-1]] for each in lines]
    x = _Scale([step for each in shown for step, _ in each], MARGIN, WIDTH - MARGIN)
    y = _Scale([value for each in shown for _, value in each], HEIGHT - MARGIN, MARGIN)
    yield from (_tick_x(step, x(step)) for step in x.ticks if step % 1 == 0)
    yield from (_tick_y(value, y(value)) for value in y.ticks)
    yield f'<text x="{WIDTH / 2}" y="{HEIGHT - 15}" text-anchor="middle">step</text>'
    yield (
        f'<text transform="translate(15 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{_text(shorten(name, LABEL_LENGTH))}</text>"
    )
    for points, colour in zip(shown, COLOURS, strict=False):
        places = [(f"{x(step):.1f}", f"{y(value):.1f}") for step, value in points]
        line = " ".join(map(",".join, places))
        last_x, last_y = places[-1]
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield f'<circle cx="{last_x}" cy="{last_y}" r="4" fill="{colour}"/>'


def _legend_entry(index: int, model: str) -> str:
    """Return the name of a model beside a dot of its colour, in one of two columns."""
    x = MARGIN + index % 2 * (WIDTH - MARGIN) / 2
    y = HEIGHT + index // 2 * LEGEND_ROW
    return (
        f'<circle cx="{x:g}" cy="{y + 4}" r="4" fill="{COLOURS[index]}"/>'
        f'<text x="{x + 10:g}" y="{y + 8}">{_text(shorten(one_line(model), LABEL_LENGTH))}</text>'
    )


def _canvas(height: int = HEIGHT) -> list[str]:
    """Return the start of an SVG with a white background."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="white"/>',
    ]


def as_image(svg: str, alt: str) -> Markdown:
    """Return an SVG as an image in Markdown, with its data inline; `alt` is a constant."""
    data = base64.b64encode(svg.encode()).decode()
    return Markdown(f"![{alt}](data:image/svg+xml;base64,{data})")


def _text(value: str) -> str:
    """Return text for the content of an XML element."""
    return escape(one_line(value))


class _Scale:
    """Linear scale from values to coordinates."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
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
        """Round numbers in the range, such as 0.2, 0.4 and 0.6; its ends if there are none."""
        span = self.high - self.low
        if span == 0:
            return [self.low]
        with suppress(OverflowError, ValueError, ZeroDivisionError):  # at the limits of a float
            power = 10.0 ** math.floor(math.log10(span / TICKS))
            step = next(each * power for each in (1, 2, 5, 10) if each * power * TICKS >= span)
            first, last = self.low / step - ROUNDING, self.high / step + ROUNDING
            return [number * step for number in range(math.ceil(first), math.floor(last) + 1)]
        return [self.low, self.high]


def _tick_x(value: float, x: float) -> str:
    return (
        f'<line x1="{x:.1f}" y1="{MARGIN - 15}" x2="{x:.1f}" y2="{HEIGHT - MARGIN + 10}" '
        f'stroke="#ddd"/><text x="{x:.1f}" y="{HEIGHT - MARGIN + 25}" text-anchor="middle">'
        f"{value:.6g}</text>"
    )


def _tick_y(value: float, y: float) -> str:
    return (
        f'<line x1="{MARGIN - 10}" y1="{y:.1f}" x2="{WIDTH - MARGIN + 15}" y2="{y:.1f}" '
        f'stroke="#ddd"/><text x="{MARGIN - 15}" y="{y + 4:.1f}" text-anchor="end">'
        f"{value:.6g}</text>"
    )
