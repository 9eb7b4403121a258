from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.chart import COLOURS, HEIGHT, MAX_CURVES, WIDTH, Point, curve, curves, scatter
from src.rendering.text import one_line

SVG = "{http://www.w3.org/2000/svg}"
numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text("a<&\"'é-") | st.text(st.characters())
points = st.builds(Point, name=names, quality=numbers, cost=numbers, latency=numbers)


def circles(drawing):
    found = ElementTree.fromstring(drawing).iter(f"{SVG}circle")
    return [(float(each.get("cx")), float(each.get("cy"))) for each in found]


def test_a_better_model_is_higher_and_a_cheaper_model_is_further_left():
    good = Point(name="good", quality=0.9, cost=0.01, latency=20)
    poor = Point(name="poor", quality=0.5, cost=0.02, latency=90)
    (good_x, good_y), (poor_x, poor_y) = circles(scatter([good, poor]))
    assert good_x < poor_x
    assert good_y < poor_y


@given(st.lists(points, min_size=1, max_size=5))
def test_every_drawing_is_valid_xml_and_contains_all_points(models):
    drawing = scatter(models)
    places = circles(drawing)
    assert len(places) == len(models)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    shown = [
        title.text.rpartition(": ")[0]
        for title in ElementTree.fromstring(drawing).iter(f"{SVG}title")
    ]
    assert shown == [one_line(model.name) for model in models]


def labels(drawing, names):
    """Return each label with its box, at the width of 7.2 pixels per character."""
    found = {}
    for text in ElementTree.fromstring(drawing).iter(f"{SVG}text"):
        if text.text in names:
            width, x, y = 7.2 * len(text.text), float(text.get("x")), float(text.get("y"))
            left = x - width if text.get("text-anchor") == "end" else x
            found[text.text] = (left, y - 11, left + width, y + 3)
    return found


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_no_label_covers_another_one_or_leaves_the_drawing_and_all_points_have_tooltips():
    names = [f"mistral-7b-dataset_v1-{n:012}" for n in range(100)]
    models = [
        Point(name=name, quality=n * 37 % 100 / 100, cost=n * 53 % 10 / 1000, latency=20 + n)
        for n, name in enumerate(names)
    ]
    drawing = scatter(models)
    boxes = list(labels(drawing, names).values())
    assert 3 <= len(boxes) <= 12
    assert [pair for pair in combinations(boxes, 2) if overlap(*pair)] == []
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= WIDTH
        assert 0 <= top < bottom <= HEIGHT
    root = ElementTree.fromstring(drawing)
    assert [title.text.split(":")[0] for title in root.iter(f"{SVG}title")] == names


def test_the_best_by_each_metric_have_a_label_also_among_many_points():
    crowd = [
        Point(name=f"other_{n}", quality=0.5 + n % 20 / 50, cost=0.011 + n // 20 / 5000, latency=50)
        for n in range(400)
    ]
    best = [
        Point(name="best", quality=0.95, cost=0.015, latency=60),
        Point(name="cheap", quality=0.7, cost=0.0108, latency=60),
        Point(name="fast", quality=0.7, cost=0.0131, latency=20),
    ]
    found = labels(scatter([*crowd, *best]), {"best", "cheap", "fast"})
    assert set(found) == {"best", "cheap", "fast"}


def test_points_in_one_place_have_one_label_for_each_free_side_at_most():
    names = [f"model_v{n}" for n in range(1, 15)]
    drawing = scatter([Point(name=name, quality=0.5, cost=0.01, latency=20) for name in names])
    found = labels(drawing, names)
    assert next(iter(found)) == "model_v1"
    assert [pair for pair in combinations(found.values(), 2) if overlap(*pair)] == []


def test_every_axis_has_a_unit():
    drawing = scatter([Point(name="a", quality=0.5, cost=0.01, latency=20)])
    for text in ("cost per 1k tokens, US dollars", "quality score, no unit", "20 ms"):
        assert text in drawing


def test_a_long_name_is_shortened_in_its_label_and_complete_in_its_tooltip():
    name = "meta-llama-Llama-3.1-8B-Instruct-dataset_v1-b573ac817c32"
    drawing = scatter([Point(name=name, quality=0.5, cost=0.01, latency=20)])
    assert ">meta-llama-Llama-3.1-…b573ac817c32</text>" in drawing
    assert f"<title>{name}: " in drawing


def test_a_model_with_all_three_metrics_has_a_point():
    metrics = {"quality_score": 0.5, "latency_ms": 20, "cost_per_1k_tokens": 0.01, "other": 1}
    assert Point.from_metrics("model_v1", metrics) == Point(
        name="model_v1", quality=0.5, cost=0.01, latency=20
    )


@pytest.mark.parametrize("value", ["0.5", True, None, [1], 10**400, -(10**400), float("nan")])
def test_a_model_with_a_metric_that_is_not_a_finite_number_has_no_point(value):
    metrics = {"quality_score": 0.5, "latency_ms": 20, "cost_per_1k_tokens": 0.01}
    for name in metrics:
        assert Point.from_metrics("model_v1", metrics | {name: value}) is None


def numbers_on_axes(drawing):
    """Return the texts of the ticks on the horizontal and on the vertical axis."""
    found = {"middle": [], "end": []}
    for text in ElementTree.fromstring(drawing).iter(f"{SVG}text"):
        if text.get("x") and text.text[-1].isdigit():
            found[text.get("text-anchor")].append(text.text)
    return found["middle"], found["end"]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.125, 0.099], ["0.1", "0.11", "0.12"]),
        ([5.3, 2.1], ["3", "4", "5"]),
        ([1e-5, 3e-5], ["1e-05", "1.5e-05", "2e-05", "2.5e-05", "3e-05"]),
        ([-20.0, 980.0], ["0", "200", "400", "600", "800"]),
        ([0.5, 1e300], ["0", "2e+299", "4e+299", "6e+299", "8e+299", "1e+300"]),
        ([-1e308, 1e308], ["-1e+308", "1e+308"]),
        ([0.0, 5e-324], ["0", "4.94066e-324"]),
        ([0.5, 0.5], ["0.5"]),
    ],
)
def test_the_numbers_on_an_axis_are_round(values, ticks):
    assert numbers_on_axes(curve("loss", list(enumerate(values))))[1] == ticks


@given(st.lists(numbers, min_size=1, max_size=5))
def test_the_numbers_on_an_axis_are_few(values):
    _, vertical = numbers_on_axes(curve("loss", list(enumerate(values))))
    assert 1 <= len(vertical) <= 6


def test_the_numbers_of_steps_are_whole():
    assert numbers_on_axes(curve("loss", [(1, 0.5), (2, 0.4), (3, 0.3)]))[0] == ["1", "2", "3"]


def test_a_curve_has_the_first_and_the_last_of_many_points():
    drawing = curve("loss", [(step, 1 / step) for step in range(1, 10_001)])
    [line] = ElementTree.fromstring(drawing).iter(f"{SVG}polyline")
    places = line.get("points").split()
    assert len(places) <= 302
    assert (places[0], places[-1]) == ("70.0,70.0", "650.0,350.0")


def test_each_of_several_curves_has_its_colour_and_its_name_in_the_legend():
    models = [("model_v1", [(1, 2.0), (2, 1.0)]), ("<b>", [(1, 3.0), (4, 1.5)])]
    root = ElementTree.fromstring(curves("loss", models))
    lines = [(each.get("points"), each.get("stroke")) for each in root.iter(f"{SVG}polyline")]
    assert lines == [
        ("70.0,210.0 263.3,350.0", "#2563eb"),
        ("70.0,70.0 650.0,280.0", "#c2410c"),
    ]
    entries = list(root)[-4:]
    assert [each.get("fill") for each in entries[::2]] == ["#2563eb", "#c2410c"]
    assert [each.text for each in entries[1::2]] == ["model_v1", "<b>"]


def luminance(colour):
    """Return the relative luminance of WCAG 2."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_of_a_curve_is_clear_on_the_white_of_the_chart():
    assert len(set(COLOURS)) == 8
    assert [each for each in COLOURS if 1.05 / (luminance(each) + 0.05) < 4.5] == []
    drawing = curves("loss", [("a", [(1, 1.0)])])
    assert f'<rect width="{WIDTH}" height="{HEIGHT + 20}" rx="6" fill="white"/>' in drawing


def test_the_chart_of_one_model_among_curves_has_the_line_of_the_single_curve():
    points = [(step, 1 / step) for step in range(1, 50)]
    [single] = ElementTree.fromstring(curve("loss", points)).iter(f"{SVG}polyline")
    [other] = ElementTree.fromstring(curves("loss", [("a", points)])).iter(f"{SVG}polyline")
    assert single.attrib == other.attrib


@given(
    st.lists(
        st.tuples(names, st.lists(st.tuples(st.integers(0, 2**53 - 1), numbers), min_size=1)),
        min_size=1,
        max_size=MAX_CURVES,
    )
)
def test_every_chart_of_curves_is_valid_xml_and_has_all_of_them_inside(models):
    root = ElementTree.fromstring(curves("loss", models))
    lines = list(root.iter(f"{SVG}polyline"))
    assert len(lines) == len({line.get("stroke") for line in lines}) == len(models)
    for x, y in (place.split(",") for line in lines for place in line.get("points").split()):
        assert 0 <= float(x) <= WIDTH
        assert 0 <= float(y) <= HEIGHT
    assert all(float(text.get("y") or 0) <= int(root.get("height")) for text in root)


def test_a_model_without_one_of_the_three_metrics_has_no_point():
    metrics = {"quality_score": 0.5, "latency_ms": 20, "cost_per_1k_tokens": 0.01}
    for name in metrics:
        others = {key: value for key, value in metrics.items() if key != name}
        assert Point.from_metrics("model_v1", others) is None
