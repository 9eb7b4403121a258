"""Tests of the pages of the UI in a real browser. README.md shows the screenshots."""

import json
import re
import shutil
from contextlib import suppress

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import expect, sync_playwright

from tests.docs import files
from tests.e2e.conftest import AUTH_STRING, eventually
from tests.e2e.screenshots import take_screenshot

SIZE = {"width": 1400, "height": 900}
HOSTILE = (
    "![x](http://127.0.0.1:9/x.png) [pay](http://e.example) <img src=http://127.0.0.1:9/y> `a` "
    "www.e.example a@e.example ~~b~~ x\\|y &lt;z"
)


@pytest.fixture(scope="module")
def page(platform):
    """A page of a browser in which the user has entered the password."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed; `make e2e` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, locale="en-US")
        page.set_default_timeout(30_000)
        expect.set_options(timeout=60_000)
        log_in(page, platform)
        yield page
        browser.close()


def log_in(page, platform):
    """Open the UI, which asks for the password, and enter it."""
    page.goto(f"{platform.url}/runs")
    page.get_by_placeholder("admin:pass").fill(AUTH_STRING)
    page.get_by_role("button", name="Login").click()
    expect(page).to_have_url(f"{platform.url}/runs")


def assert_tables_fit(page):
    """Check that no table, and so no column, extends beyond the edge of its part of the page."""
    page.locator("table").first.wait_for()
    widths = page.locator("table").evaluate_all(
        "tables => tables.map(table => [table.scrollWidth, table.parentElement.clientWidth])"
    )
    assert [pair for pair in widths if pair[0] > pair[1]] == []


def assert_chart(page, name):
    """Check that a chart is visible, and drawn in its full width."""
    chart = page.get_by_role("img", name=name)
    expect(chart).to_be_visible()
    assert chart.evaluate("image => image.naturalWidth") == 720


def open_newest(page, platform, key):
    """Open the newest artifact of a key, from the page that lists all artifacts of the key."""
    page.goto(f"{platform.url}/artifacts/key/{key}")
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    expect(page).to_have_url(re.compile("/artifacts/artifact/"))


def follow(page, platform, link):
    """Open the target of a link in the same tab; the UI opens links of artifacts in a new one."""
    page.goto(platform.url + link.get_attribute("href"))


def open_form(page, platform):
    """Open the form for a run of the deployment `train`."""
    page.goto(f"{platform.url}/deployments")
    page.get_by_role("link", name="train", exact=True).click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    expect(page.locator("textarea").first).to_have_value("configs/training/mistral_finetune.yaml")


def fill_in(page, field, text):
    """Fill in a text field of the form, again if the form has its defaults only now."""
    field = page.locator("textarea").nth(field)

    def is_kept():
        field.fill(text)
        page.wait_for_timeout(1000)
        return field.input_value() == text

    eventually(is_kept)


def submit(page, platform, field, text):
    """Fill in a text field, submit the form, and open the page of the new run."""
    before = {run["id"] for run in platform.runs("training-pipeline/train")}
    button = page.get_by_role("button", name="Submit")

    def new_runs():
        # A form that has its defaults only now loses what was filled in, and is not submitted.
        if button.is_visible():
            fill_in(page, field, text)
            button.click()
        with suppress(PlaywrightTimeoutError):
            button.wait_for(state="hidden")
        return {run["id"] for run in platform.runs("training-pipeline/train")} - before

    [run] = eventually(new_runs)
    page.goto(f"{platform.url}/runs/flow-run/{run}")


def test_a_run_started_in_the_form_completes_and_its_report_shows_the_metrics(page, platform):
    open_form(page, platform)
    for description in (
        "The training config, a YAML file",
        "Leave it empty to derive the name",
        "Folder that holds",
    ):
        expect(page.get_by_text(description)).to_be_visible()
    fill_in(page, 1, "in_the_browser")
    take_screenshot(page, "form")

    submit(page, platform, 1, "in_the_browser")
    expect(page.get_by_text("Completed").first).to_be_visible()
    expect(page.get_by_text("train in_the_browser").first).to_be_visible()
    page.reload()  # a graph that was opened during the run does not show all steps
    expect(page.get_by_text("Completed").first).to_be_visible()
    take_screenshot(page, "run")

    page.get_by_text("Artifacts", exact=True).first.click()
    key = "training-in-the-browser--2fc198c8a99c8d91"
    expect(page.get_by_text(key).first).to_be_visible()
    open_newest(page, platform, key)
    expect(page.get_by_role("heading", name="in_the_browser", exact=True)).to_be_visible()
    path = platform.project / "artifacts/evaluations/in_the_browser/evaluation.json"
    for metric, value in json.loads(path.read_text())["metrics"].items():
        row = page.get_by_role("row", name=re.compile(f"^{metric} "))
        expect(row.get_by_role("cell").nth(1)).to_have_text(str(value))
    take_screenshot(page, "report")

    follow(page, platform, page.get_by_role("link", name="All models"))
    expect(page.get_by_text("All models, the newest first")).to_be_visible()
    expect(page.get_by_role("link", name="in_the_browser", exact=True)).to_be_visible()
    assert_tables_fit(page)
    take_screenshot(page, "models")
    follow(page, platform, page.get_by_role("link", name="in_the_browser", exact=True))
    expect(page).to_have_url(re.compile("/artifacts/key/training-in-the-browser"))


def test_a_failed_run_shows_the_fault_of_the_config(page, platform):
    config = "configs/training/mistake.yaml"
    text = (platform.project / "configs/training/mistral_finetune.yaml").read_text()
    (platform.project / config).write_text(text.replace("epochs", "epoch"))
    open_form(page, platform)
    submit(page, platform, 0, config)
    expect(page.get_by_text("Failed").first).to_be_visible()

    def shows_its_step():  # a page that was opened before the step was recorded never does
        page.reload()
        expect(page.get_by_text("Failed").first).to_be_visible()
        page.wait_for_load_state("networkidle")
        return page.get_by_text("did not generate any task").is_hidden()

    eventually(shows_its_step)
    page.get_by_text("Details", exact=True).first.click()
    page.get_by_text("See More").click()
    message = page.get_by_text(re.compile(r"unknown key 'epoch', did you mean 'epochs'\?")).first
    expect(message).to_be_visible()
    page.set_viewport_size({"width": 1400, "height": 1000})  # shows the message, too
    take_screenshot(page, "failed")
    page.set_viewport_size(SIZE)


def write_trainers(platform):
    """Write the trainer of docs/training.md; return its config."""
    page = files("training.md")
    (platform.project / "my_trainers.py").write_text(page["my_trainers.py"])
    return page["configs/training/mine.yaml"]


def test_the_report_of_a_training_shows_the_loss_by_step(page, platform):
    config = write_trainers(platform)
    (platform.project / "configs/training/mine.yaml").write_text(config)
    platform.run_flows('training_pipeline("configs/training/mine.yaml", "my_model")')
    open_newest(page, platform, "training-my-model--535d4cfe74afbb16")
    assert_chart(page, "Loss by step")
    assert_tables_fit(page)
    page.set_viewport_size({"width": 1400, "height": 1100})  # shows the whole curve
    take_screenshot(page, "training")
    page.set_viewport_size(SIZE)
    (platform.project / "configs/training/mine.yaml").unlink()


def test_a_comparison_of_trainings_shows_their_losses_in_one_chart(page, platform):
    config = write_trainers(platform)
    paths = [platform.project / f"configs/training/{name}.yaml" for name in ("slow", "fast")]
    for path, learning_rate in zip(paths, ["0.01", "0.05"], strict=True):
        path.write_text(config.replace("0.01", learning_rate))
    platform.run_flows("""
for version in ("slow", "fast"):
    training_pipeline(f"configs/training/{version}.yaml", version)
compare_models(["slow", "fast"])
""")
    for path in paths:
        path.unlink()
    open_newest(page, platform, "comparison")
    assert_chart(page, "Loss by step")
    assert_tables_fit(page)
    page.set_viewport_size({"width": 1400, "height": 1100})  # shows the whole chart
    take_screenshot(page, "losses")
    page.set_viewport_size(SIZE)


def test_a_comparison_shows_a_chart(page, platform):
    platform.run_flows("""
for version in ("left", "right"):
    training_pipeline("configs/training/mistral_finetune.yaml", version)
compare_models(["left", "right"])
""")
    open_newest(page, platform, "comparison")
    assert_chart(page, "Quality against cost and latency")
    assert_tables_fit(page)
    take_screenshot(page, "comparison")


def test_the_report_of_a_sweep_fits_the_page_and_links_the_models(page, platform):
    names = ("llama_lora", "mistral_finetune", "qwen_small_full")
    configs = [f"configs/training/{name}.yaml" for name in names]
    platform.run_flows(f"training_sweep({configs}, 'configs/sweeps/mistral_finetune.yaml')")
    for key in ("sweep", "sweep-leaderboard"):
        open_newest(page, platform, key)
        link = page.locator(".markdown-renderer a[href*='/artifacts/key/training-']").first
        expect(link).to_be_visible()
        assert_tables_fit(page)
        if key == "sweep":
            expect(page.get_by_role("img", name="Quality against cost")).to_be_visible()
            take_screenshot(page, key)


def test_the_table_of_an_audit_shows_verdicts(page, platform):
    platform.run_flows("audit_models()")
    open_newest(page, platform, "audit")
    expect(page.get_by_text("MATCH", exact=True).first).to_be_visible()
    assert_tables_fit(page)
    take_screenshot(page, "audit")


def test_text_of_a_config_is_text_on_every_page(page, platform):
    path = "configs/h&#39;$(x).yaml"  # no config of dataset-published
    text = (platform.project / "configs/training/mistral_finetune.yaml").read_text()
    assert text.count("mistral-7b") == 1
    (platform.project / path).write_text(text.replace("mistral-7b", json.dumps(HOSTILE)))
    platform.run_flows(f"""
training_pipeline({path!r}, "hostile")
compare_models(["hostile", "hostile"], everything=True)
training_sweep([{path!r}])
""")
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    for key in ("training-hostile", "models", "comparison", "sweep", "sweep-leaderboard"):
        open_newest(page, platform, key)
        expect(page.get_by_text(key, exact=True).first).to_be_visible()
        page.wait_for_timeout(2000)  # until Markdown is rendered and images are loaded
        shown = " ".join(page.locator("body").inner_text().split())
        # Where base models differ, long ones are shown without their middle.
        assert (HOSTILE[:13] if key == "models" else HOSTILE) in shown, key
        for link in page.locator(".markdown-renderer a").all():
            assert link.get_attribute("href").startswith("/artifacts/"), key
        for image in page.locator("img").all():
            assert image.get_attribute("src").startswith("data:image/svg+xml;base64,"), key
    assert [url for url in requests if not url.startswith((platform.url, "blob:", "data:"))] == []
    open_newest(page, platform, "training-hostile")
    expect(page.get_by_text("'training_config_path=configs/h'\\&'#39;$(x).yaml'")).to_be_visible()
