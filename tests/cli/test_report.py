"""Tests of the command `report`, without its charts; tests/e2e opens the page in a browser."""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.hostile import KINDS, PLACES, SECRET, put

PAGE = Path("report.html")
READ = ("registry", "metadata", "statement", "evaluation", "evaluation's statement")
CHARTS = """
import sys
from cli.main import main
print("altair" in sys.modules or "vl_convert" in sys.modules)
"""


@pytest.fixture(autouse=True)
def _empty_charts(request):
    if "real_extra" not in request.fixturenames:
        request.getfixturevalue("empty_charts")


@pytest.fixture
def real_extra():
    """Use the extra `report`, if it is installed."""


def content(path=PAGE):
    """Return the data that a page holds."""
    [data] = re.findall('id="content">(.*)</script>', path.read_text())
    return json.loads(data)


def test_report_writes_one_page_with_all_models(models, llm_train):
    done = llm_train("report")
    size = PAGE.stat().st_size
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"report.html: 2 models, {size:,} bytes.\n"
    assert [model["version"] for model in content()["models"]] == ["model_v2", "model_v1"]
    assert llm_train("report", "--output", "other.html").exit_code == 0
    assert len(content(Path("other.html"))["models"]) == 2


def test_report_with_json_prints_what_was_written(models, as_json):
    assert as_json("report", "--output", "a.html") == {
        "file": "a.html",
        "models": 2,
        "size": Path("a.html").stat().st_size,
        "faults": [],
    }


def test_a_damaged_file_is_an_error_and_all_models_are_on_the_page(models, llm_train):
    Path("artifacts/evaluations/model_v1/evaluation.json").write_text("{")
    done = llm_train("report")
    assert done.exit_code == 1
    assert done.stdout.startswith("report.html: 2 models, ")
    [error] = done.stderr.splitlines()
    assert error.startswith("error: artifacts/evaluations/model_v1/evaluation.json: line 1, ")
    assert [each["faults"] for each in content()["models"]] == [[], [error.removeprefix("error: ")]]


def test_a_lost_folder_of_a_model_is_an_error_and_its_model_is_on_the_page(models, llm_train):
    shutil.rmtree("artifacts/models/model_v1")
    done = llm_train("report")
    assert done.exit_code == 1
    faults = [
        f"artifacts/models/model_v1/{name}: no such file, but the model is registered. Restore it "
        "from a backup."
        for name in ("metadata.json", "provenance.json")
    ]
    assert done.stderr.splitlines() == [f"error: {fault}" for fault in faults]
    assert [each["faults"] for each in content()["models"]] == [[], faults]
    assert llm_train("verify", "model_v1").exit_code == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", READ)
def test_anything_in_place_of_a_file_is_an_error_and_the_page_is_written(
    kind, place, models, llm_train
):
    put(kind, Path(PLACES[place]))
    done = llm_train("report")
    assert (done.exit_code, len(content()["models"])) == (1, 2)
    assert PLACES[place] in done.stderr
    assert SECRET not in PAGE.read_text() + done.output


def test_a_hostile_model_is_text_on_the_page(models, llm_train):
    registry = Path("artifacts/models/registry.json")
    hostile = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\u202e'
    text = registry.read_text()
    registry.write_text(text.replace('"mistral-7b"', json.dumps(hostile)))
    assert llm_train("report").exit_code == 0
    page = PAGE.read_text()
    assert (page.count("<script"), page.count("</script"), page.count("<img")) == (4, 4, 0)
    assert content()["models"][1]["base_model"].startswith('"</script><script>alert(1)')


def test_without_models_the_page_says_so(project, llm_train):
    Path("artifacts/models").mkdir()
    Path("artifacts/models/registry.json").write_text('{\n  "models": []\n}\n')
    done = llm_train("report")
    assert (done.exit_code, content()["models"]) == (0, [])
    assert done.stdout.startswith("report.html: 0 models, ")


def test_a_folder_without_models_is_named_with_what_to_do(project, llm_train):
    done = llm_train("report", "--artifacts-dir", "configs")
    assert (done.exit_code, done.stdout, done.stderr) == (
        2,
        "",
        "error: configs: no folder models/ with models. Train one first, or pass the folder that "
        "has the models with --artifacts-dir.\n",
    )
    assert not PAGE.exists()


@pytest.mark.parametrize(
    "output", ["artifacts/models/registry.json", "artifacts/a.html", "artifacts/models/model_v1/a"]
)
def test_a_report_never_becomes_a_part_of_the_record(models, llm_train, tree, output):
    before = tree(Path("artifacts"))
    done = llm_train("report", "--output", output)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {output}: expected a file outside of the artifacts root, or in its folder "
        "reports/. Use another name.\n"
    )
    assert tree(Path("artifacts")) == before


def test_a_report_in_a_folder_that_does_not_exist_is_an_error(models, llm_train):
    done = llm_train("report", "--output", "none/report.html")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"error: {Path.cwd()}/none: no such folder. Create it first.\n"


def test_a_report_that_cannot_be_written_leaves_the_old_page(models, llm_train, monkeypatch):
    PAGE.write_text("old")
    monkeypatch.setattr("os.replace", failing)
    done = llm_train("report")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "No space left on device" in done.stderr
    assert PAGE.read_text() == "old"


def failing(*_, **__):
    raise OSError(28, "No space left on device", "report.html")


def test_the_command_line_does_not_import_the_charts(start):
    assert start(CHARTS).end() == "False"


def test_without_the_extra_the_command_says_how_to_get_it(
    models, llm_train, monkeypatch, real_extra
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = llm_train("report")
    assert (done.exit_code, done.stdout, done.stderr) == (
        2,
        "",
        "error: The report needs altair, which is not installed. `make report` installs it and "
        "writes the report; or run `pip install --require-hashes -r requirements/report.lock`.\n",
    )
    assert not PAGE.exists()


@pytest.mark.skipif(
    find_spec("altair") is None, reason="the extra `report` is not installed; see make report"
)
def test_with_the_extra_the_page_has_its_charts(models, llm_train, real_extra):
    assert llm_train("report").exit_code == 0
    page = PAGE.read_text()
    assert page.count("</script") == 4
    [charts] = re.findall('id="chart-specs">(.*)</script>', page)
    assert list(json.loads(charts)) == ["scatter", "times", "losses"]


@pytest.mark.parametrize("output", ["artifacts/reports/verdicts.json", "link/verdicts.json"])
def test_the_verdicts_of_the_audit_are_not_overwritten(output, models, llm_train):
    verdicts = Path("artifacts/reports/verdicts.json")
    verdicts.parent.mkdir(exist_ok=True)
    verdicts.write_text("{}")
    Path("link").symlink_to("artifacts/reports")
    done = llm_train("report", "--output", output)
    assert (done.exit_code, verdicts.read_text()) == (2, "{}")
    assert done.stderr == (
        f"error: {output}: expected another file than that of the last audit's verdicts. Use "
        "another name.\n"
    )
