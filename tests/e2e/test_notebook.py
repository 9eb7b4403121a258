"""The example notebook, run by Jupyter in a copy of the project."""

import nbformat
from nbclient import NotebookClient

from tests.checkout import ROOT, copy_project

NOTEBOOK = "examples/own_data.ipynb"


def outputs(notebook):
    """Return what each code cell shows: the text, or that of its richest form."""
    return [
        "".join(
            output.get("text") or output.data.get("text/markdown") or output.data["text/plain"]
            for output in cell.outputs
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_notebook_shows_what_it_shows_in_the_repository(tmp_path, monkeypatch):
    project = copy_project(tmp_path / "project")
    monkeypatch.setenv("PYTHONPATH", str(project))  # before the checkout, which is installed
    committed = nbformat.read(ROOT / NOTEBOOK, as_version=4)
    notebook = nbformat.read(project / NOTEBOOK, as_version=4)
    path = {"metadata": {"path": str(project / "examples")}}
    for _ in range(2):  # a second run adds nothing
        NotebookClient(notebook, timeout=600, resources=path).execute()
        assert outputs(notebook) == outputs(committed)
    names = sorted(folder.name for folder in (project / "artifacts/models").iterdir())
    assert names == ["registry.json", "registry.json.lock", "sums_fast", "sums_slow"]
