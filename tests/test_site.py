"""The documentation site, built as `make docs` builds it."""

import html
import os
import re
import subprocess
from collections.abc import Iterator
from urllib.parse import unquote

import click
import pytest

from cli.main import main
from tests.checkout import ROOT

PYTHON = ROOT / ".venv/docs/bin/python"
LOADED = re.compile(  # what a browser loads with a page
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=["']?([^"' >]*)"""
    r"""|<link\b(?![^>]*\brel=["']?(?:canonical|next|prev))[^>]*?\bhref=["']?([^"' >]*)"""
    r"""|url\(["']?([^"')]*)|@import\s+["']([^"']*)"""
)

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="needs the environment of the site: run `make docs`"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [PYTHON, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def test_the_target_of_make_names_the_page_to_open_and_a_server_for_the_search():
    command = ["make", "--silent", "docs", "MKDOCS=true"]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == (
        "site/index.html; with search: "
        ".venv/bin/python -m http.server --bind 127.0.0.1 --directory site\n"
    )


def text(path) -> str:
    """Return the text of a page, without its elements."""
    return html.unescape(re.sub(r"<[^>]+>", "", path.read_text()))


def test_a_page_loads_nothing_from_another_host(site):
    files = [path for path in site.rglob("*") if path.suffix in {".html", ".css"}]
    assert len(files) > 30
    for path in files:
        loaded = ["".join(groups) for groups in LOADED.findall(path.read_text())]
        assert path.suffix == ".css" or loaded
        assert [each for each in loaded if re.match(r"(\w+:)?//", each)] == [], path
    # The script of the theme would load the library of such a diagram.
    assert not any('class="mermaid"' in path.read_text() for path in site.rglob("*.html"))


def test_every_file_that_a_page_loads_or_links_to_exists(site):
    for path in site.rglob("*.html"):
        if path.name == "404.html":  # its addresses begin with that of the site
            continue
        for address in re.findall(r'\b(?:href|src)="?([^"\s>]+)', path.read_text()):
            address, _, _ = html.unescape(unquote(address)).partition("#")
            if address and not re.match(r"\w+:", address):
                assert (path.parent / address).exists(), (path, address)


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for word, command in group.commands.items():
        yield f"{name} {word}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")


def test_the_reference_of_the_command_line_has_every_command_and_option(site):
    page = text(site / "reference/cli.html")
    for name, command in commands(main, "llm-train"):
        assert name in page
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                assert option in page, (name, option)


def test_the_reference_of_python_documents_the_functions_that_the_readme_names(site):
    page = text(site / "reference/python.html")
    for name in ("run_training_pipeline", "train_model", "register_model", "verify", "compare"):
        assert re.search(rf"\b{name}\b\s*\(", page)
    assert "Returns:" in page
    assert "ModelVersionConflict" in page
