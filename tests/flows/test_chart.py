from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.chart import HEIGHT, WIDTH, Point, scatter
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


def test_the_first_twelve_points_have_labels_and_all_points_have_tooltips():
    names = [f"model_v{n}" for n in range(1, 15)]
    drawing = scatter([Point(name=name, quality=0.5, cost=0.01, latency=20) for name in names])
    root = ElementTree.fromstring(drawing)
    labels = [text.text for text in root.iter(f"{SVG}text") if text.text in names]
    assert labels == names[:12]
    assert [title.text.split(":")[0] for title in root.iter(f"{SVG}title")] == names


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


def test_a_large_number_has_a_short_label():
    drawing = scatter(
        [Point(name="a", quality=quality, cost=1, latency=1) for quality in (0.5, 1e300)]
    )
    assert ">1e+300</text>" in drawing
    assert ">0.500</text>" in scatter([Point(name="a", quality=0.5, cost=1, latency=1)])


def test_a_model_without_one_of_the_three_metrics_has_no_point():
    metrics = {"quality_score": 0.5, "latency_ms": 20, "cost_per_1k_tokens": 0.01}
    for name in metrics:
        others = {key: value for key, value in metrics.items() if key != name}
        assert Point.from_metrics("model_v1", others) is None
