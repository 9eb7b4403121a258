"""The page of `llm-train report` in a real browser without a network."""

import json
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from src.artifacts import Artifacts
from src.environment import Invocation
from src.records.verdicts import Audit, ModelVerdict
from src.training.pipeline import run_training_pipeline
from tests.checkout import ROOT
from tests.e2e.screenshots import take_screenshot
from tests.trainers import MODULE, write_config, write_module

SIZE = {"width": 1400, "height": 1000}
BASE_MODELS = ("mistral-7b", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-1.5B")
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
ZERO = "zero"
DETAILS = ("evaluation.json: expected sha256 1, found not valid JSON",)
CONFIG = """\
base_model: {base_model}
dataset_version: dataset_v1
learning_rate: {rate}
epochs: {epochs}
batch_size: 16
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project with 120 models, one of them hostile, one damaged, three trained, and an audit."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(ROOT / "artifacts/datasets", folder / "artifacts/datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number in range(116):
            config = CONFIG.format(
                base_model=BASE_MODELS[number % 3],
                rate=f"{1 + number % 7}e-5",
                epochs=1 + number % 5,
            )
            Path("config.yaml").write_text(config)
            run_training_pipeline("config.yaml", f"model_{number:03}", invocation=on_day(number))
        train_models()
        write_verdicts()
        assert report("--output", "shown.html").returncode == 0
        Path("config.yaml").write_text(
            CONFIG.format(base_model=json.dumps(HOSTILE), rate="1e-5", epochs=1)
        )
        run_training_pipeline("config.yaml", "model_hostile", metrics=hostile_metrics)
        Path("artifacts/evaluations/model_005/evaluation.json").write_text("{")
        write_verdicts(model_005=ModelVerdict(verdict="MISMATCH", details=DETAILS))
        done = report()
        assert done.returncode == 1
        assert "model_005/evaluation.json" in done.stderr
    return folder


def on_day(number):
    """Return a run on one of the days of two months."""
    started_on = datetime(2026, 9, 14) + timedelta(hours=number * 13)
    return Invocation(started_on=f"{started_on.isoformat()}.000Z")


def train_models():
    """Train three models whose losses fall with their learning rate."""
    loss = '1 / (1 + state["weight"])'
    write_module(MODULE.replace(f"loss={loss}", f"loss=3 * {loss}"))
    for number, rate in enumerate((0.001, 0.002, 0.004)):
        path = write_config({"use": "mine:train", "seed": 1, "options": {"steps": 60}})
        text = Path(path).read_text().replace("2e-5", str(rate))
        Path(path).write_text(text)
        run_training_pipeline(path, f"trained_{number}")


def hostile_metrics(metadata):
    """Return metrics whose names are HTML and an expression of Vega."""
    return {
        "quality_score": 0.99,
        "cost_per_1k_tokens": 0.01,
        "latency_ms": 20,
        "<img src=x onerror='window.hacked = 3'>": 1,
        "x'] + (window.hacked = 4) + ['": 2,
        ZERO: 0,
    }


def write_verdicts(**others):
    """Write the verdicts of an audit, as the nightly one does; `others` are no match."""
    models = {f"model_{number:03}": ModelVerdict(verdict="MATCH") for number in range(116)}
    models |= {f"trained_{number}": ModelVerdict(verdict="AS RECORDED") for number in range(3)}
    audit = Audit(audited_on="2026-11-24T04:00:00.000Z", models=models | others)
    (Artifacts.open("artifacts").reports / "verdicts.json").replace(audit.to_bytes())


def report(*arguments):
    """Run `llm-train report`, which needs the extra."""
    code = "import sys; from cli.entry import main; sys.argv[0] = 'llm-train'; main()"
    command = [sys.executable, "-c", code, "report", *arguments]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, env=env)


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed; `make e2e` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(project, browser):
    """The page of the project, without a network; it must request nothing and log no error."""
    context = browser.new_context(viewport=SIZE, offline=True, color_scheme="light")
    page = context.new_page()
    requests, messages = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    url = f"file://{project}/report.html"
    page.goto(url)
    page.locator("#scatter svg").wait_for()
    yield page
    opened = (f"file://{project}/", "data:")
    assert [each for each in requests if not each.startswith(opened)] == []
    assert messages == []
    assert page.evaluate("window.hacked") is None
    context.close()


def versions(page):
    """Return the models of the table, in its order."""
    return page.locator("table.models tbody td:nth-child(2) a").all_inner_texts()


def column(page, name):
    """Return the cells of a column of the table."""
    names = [each.strip(" ↑↓") for each in page.locator("table.models th").all_inner_texts()]
    place = names.index(name) + 1
    return page.locator(f"table.models tbody td:nth-child({place})").all_inner_texts()


def sort(page, name):
    page.locator(f"table.models th button[title='{name}']").click()


def test_the_page_shows_the_newest_models_and_the_rest_on_a_second_page(page):
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    expect(page.locator("#count")).to_have_text("120 models")
    assert versions(page)[:2] == ["model_hostile", "trained_2"]
    assert len(versions(page)) == 100
    page.get_by_role("button", name="Next page").click()
    assert versions(page)[-1] == "model_000"
    assert len(versions(page)) == 20


def test_filters_leave_the_models_that_match_all_of_them(page):
    page.get_by_role("searchbox").fill("model_01")
    expect(page.locator("#count")).to_have_text("10 of 120 models")
    page.locator("#base_model").select_option("mistral-7b")
    expect(page.locator("#count")).to_have_text("3 of 120 models")
    assert versions(page) == ["model_018", "model_015", "model_012"]
    page.get_by_role("searchbox").fill("nothing")
    expect(page.get_by_text("No model matches the filters.")).to_be_visible()
    page.get_by_role("searchbox").fill("")
    page.locator("#base_model").select_option("")
    page.locator("#verdict").select_option("MISMATCH")
    assert versions(page) == ["model_005"]


def test_a_column_sorts_in_both_orders_with_missing_values_last(page):
    sort(page, "quality_score")
    ascending = [float(each) for each in column(page, "quality_score")]
    assert ascending == sorted(ascending)
    sort(page, "quality_score")
    descending = [float(each) for each in column(page, "quality_score")]
    assert descending[0] == max(descending) > max(ascending[:50])
    assert descending == sorted(descending, reverse=True)
    page.get_by_role("button", name="Next page").click()
    assert column(page, "quality_score")[-1] == "-"


def test_a_row_opens_its_model_with_its_lineage_and_its_address(page):
    page.get_by_role("searchbox").fill("model_012")
    page.get_by_role("link", name="model_012").click()
    panel = page.get_by_label("Details")
    expect(panel.get_by_role("heading", name="model_012")).to_be_visible()
    assert page.url.endswith("#model=model_012")
    graph = panel.get_by_role("img", name="Lineage of model_012")
    expect(graph.locator(".kind")).to_have_text(
        ["dataset", "config", "code", "model", "evaluation"]
    )
    title = graph.locator("title").first.text_content()
    assert title.splitlines() == [
        "dataset",
        "dataset_v1",
        "sha256 ec34208a0c14a6917862c556965dc0bdbc3a9df1277ffe3e0adfced7a72379ae",
    ]
    page.get_by_role("button", name="Close").click()
    expect(panel).to_be_hidden()
    assert "#" not in page.url


def test_a_click_on_a_point_opens_its_model(page):
    page.get_by_role("searchbox").fill("model_007")
    points = page.locator("#scatter .mark-symbol.role-mark path")
    expect(points).to_have_count(1)
    points.click()
    panel = page.get_by_label("Details")
    expect(panel.get_by_role("heading", name="model_007")).to_be_visible()


def test_a_point_shows_its_model_and_its_metrics(page):
    page.get_by_role("searchbox").fill("model_007")
    points = page.locator("#scatter .mark-symbol.role-mark path")
    expect(points).to_have_count(1)
    points.hover()
    expect(page.locator("#hint")).to_contain_text("model_007")
    expect(page.locator("#hint")).to_contain_text("quality_score")


def labels(page, chart, place):
    """Return the labels of an axis of a chart; `place` is 0 for the horizontal one."""
    axis = page.locator(f"#{chart} svg .role-axis-label").nth(place)
    return [text for text in axis.locator("text").all_text_contents() if text]


def show_only(page, version):
    page.get_by_role("searchbox").fill(version)
    for chart in ("scatter", "times"):
        expect(page.locator(f"#{chart} .mark-symbol.role-mark path")).to_have_count(1)


def test_the_axes_of_one_model_have_labels_around_its_values(page):
    show_only(page, "model_007")
    assert column(page, "cost_per_1k_tokens") + column(page, "quality_score") == ["0.014", "0.7886"]
    cost, quality = labels(page, "scatter", 0), labels(page, "scatter", 1)
    assert (cost[0], cost[1], cost[-1]) == ("0.0120", "0.0125", "0.0160")
    assert (quality[0], quality[1], quality[-1]) == ("0.70", "0.72", "0.88")


def test_a_metric_of_zero_of_one_model_is_between_minus_one_and_one(page):
    show_only(page, "model_hostile")
    page.locator("#scatter-x").select_option(ZERO)
    expect(page.locator("#scatter .role-axis-title").first).to_have_text(ZERO)
    assert labels(page, "scatter", 0) == ["\u22121.0", "\u22120.5", "0.0", "0.5", "1.0"]


def test_the_axes_fit_all_models_again_when_the_filter_is_cleared(page):
    expect(page.locator("#times svg")).to_be_visible()
    before = labels(page, "scatter", 1), labels(page, "times", 0)
    show_only(page, "model_007")
    assert labels(page, "scatter", 1) != before[0]
    assert labels(page, "times", 0) != before[1]
    page.get_by_role("searchbox").fill("")
    for chart in ("scatter", "times"):
        points = page.locator(f"#{chart} .mark-symbol.role-mark path")
        expect(points).to_have_count(119)  # all but the damaged one
    assert (labels(page, "scatter", 1), labels(page, "times", 0)) == before


def test_times_have_24_hours_and_are_dates_where_they_span_days(page):
    show_only(page, "model_007")  # which ran at 19:00
    hours = labels(page, "times", 0)
    assert (hours[0], hours[1], hours[-1]) == ("18:00", "18:15", "20:00")
    page.get_by_role("searchbox").fill("model_00")
    expect(page.locator("#times .mark-symbol.role-mark path")).to_have_count(9)
    days = ["Sep 14", "Sep 15", "Sep 16", "Sep 17", "Sep 18", "Sep 19"]
    assert labels(page, "times", 0) == days


def test_the_page_says_that_metrics_are_simulated(page, project):
    text = "are simulated: they depend only on the names of model and dataset."
    expect(page.locator("#simulated")).to_have_text(f"The metrics of 118 models {text}")
    page.get_by_role("searchbox").fill("model_012")
    page.get_by_role("link", name="model_012").click()
    simulated = page.get_by_label("Details").get_by_text("Evaluated by: simulated")
    expect(simulated).to_be_visible()
    page.goto(f"file://{project}/report.html#model=model_hostile")
    panel = page.get_by_label("Details")
    expect(panel.get_by_role("heading", name="model_hostile")).to_be_visible()
    expect(simulated).to_have_count(0)
    page.goto(f"file://{project}/shown.html")
    expect(page.locator("#simulated")).to_have_text(f"The metrics {text}")


def test_the_metrics_of_the_charts_are_chosen_on_the_page(page):
    page.locator("#scatter-x").select_option("latency_ms")
    expect(page.locator("#scatter .role-axis-title").first).to_have_text("latency_ms")
    page.locator("#times-y").select_option("latency_ms")
    expect(page.locator("#times .role-axis-title").last).to_have_text("latency_ms")


def test_two_picked_models_show_what_differs_first_and_everything_on_request(page):
    page.get_by_role("searchbox").fill("model_01")
    for version in ("model_010", "model_014"):
        page.get_by_label(f"Compare {version}").check()
    page.get_by_role("button", name="Show what differs").click()
    assert page.url.endswith("#compare=model_010,model_014")
    expect(page.locator("#picked")).to_be_hidden()
    rows = page.locator("table.difference tbody tr")
    expect(rows.first).to_contain_text("base_model")
    names = page.locator("table.difference tbody th:nth-child(2)")
    assert {"base_model", "learning_rate", "quality_score"} <= set(names.all_inner_texts())
    assert "batch_size" not in names.all_inner_texts()
    assert page.locator("table.difference tbody tr.equal").count() == 0
    page.get_by_label("Show all values").check()
    assert {"batch_size", "sha256", "python"} <= set(names.all_inner_texts())
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#picked")).to_be_visible()


def test_a_damaged_model_is_listed_with_what_could_not_be_read(page):
    page.get_by_role("searchbox").fill("model_005")
    expect(page.locator("table.models .fault")).to_contain_text(
        "evaluations/model_005/evaluation.json: line 1, column 2: not valid JSON"
    )
    page.get_by_role("link", name="model_005").click()
    panel = page.get_by_label("Details")
    expect(panel.locator(".badge")).to_have_text("mismatch")
    expect(panel.get_by_text("expected sha256 1, found not valid JSON")).to_be_visible()


def test_hostile_names_are_text_in_the_table_the_panel_and_the_charts(page):
    page.get_by_role("searchbox").fill("model_hostile")
    assert column(page, "base model")[0].startswith("</script><script>")
    for metric in list(hostile_metrics({}))[3:5]:
        for select in ("#scatter-x", "#scatter-y", "#times-y"):
            page.locator(select).select_option(metric)
        expect(page.locator("#scatter .role-axis-title").first).to_have_text(metric)
    page.locator("#scatter .mark-symbol.role-mark path").hover()
    expect(page.locator("#hint")).to_contain_text(HOSTILE)
    page.get_by_role("link", name="model_hostile").click()
    panel = page.get_by_label("Details")
    expect(panel.get_by_text(HOSTILE).first).to_be_visible()
    assert page.locator("img").count() == 0


def test_the_losses_of_trainings_are_curves(page):
    expect(page.locator("#losses .mark-line path")).to_have_count(3)
    page.get_by_role("searchbox").fill("trained_1")
    expect(page.locator("#losses .mark-line path")).to_have_count(1)


def test_the_page_is_light_or_dark_as_the_system_is_and_a_button_switches(page):
    def background():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background()
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = background()
    assert light != dark
    page.emulate_media(color_scheme="dark")
    page.get_by_role("button", name="Switch between light and dark").click()
    assert background() == light


def test_an_address_opens_its_model(page):
    page.goto(page.url + "#model=model_003")
    expect(page.get_by_label("Details").get_by_role("heading", name="model_003")).to_be_visible()
    page.goto(page.url.split("#")[0] + "#model=%3Cimg%3E")
    expect(page.get_by_label("Details")).to_be_hidden()


def test_the_page_fits_a_narrow_window_and_the_docs_show_it(page, project):
    page.set_viewport_size({"width": 800, "height": 1000})
    page.locator("#losses svg").wait_for()
    page.wait_for_function("document.documentElement.scrollWidth <= 800")  # once they are resized
    page.set_viewport_size(SIZE)
    page.goto(f"file://{project}/shown.html")
    page.locator("#scatter svg").wait_for()
    take_screenshot(page, "models_page")
