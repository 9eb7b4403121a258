"""Sparklines: a series of numbers as one line of text."""

from collections.abc import Sequence

__all__ = ["sparkline"]

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 12  # characters


def sparkline(values: Sequence[float]) -> str:
    """Return the first value, at most `WIDTH` bars, and the last value: `5.30 █▅▃▂▁ 2.11`.

    The lowest and the highest of the values that are drawn have the lowest and the highest bar.
    Values that are all equal have bars of half the height.

    Args:
        values: Finite numbers; at least one. If there are more than `WIDTH`, values at equal
            distances are drawn, including the first and the last one.
    """
    last = len(values) - 1
    count = min(len(values), WIDTH)
    drawn = [values[round(index * last / max(count - 1, 1))] for index in range(count)]
    # Halves, because the difference of two large numbers can be infinite.
    low, span = min(drawn) / 2, max(drawn) / 2 - min(drawn) / 2
    top = len(BARS) - 1
    heights = [round((value / 2 - low) / span * top) if span else top // 2 for value in drawn]
    return f"{_short(values[0])} {''.join(BARS[each] for each in heights)} {_short(values[-1])}"


def _short(value: float) -> str:
    """Return a number with three digits, e.g. `5.30`."""
    return f"{value:#.3g}".removesuffix(".")
