"""The documentation site in a real browser, served from this machine."""

import functools
import os
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.checkout import ROOT

PYTHON = ROOT / ".venv/docs/bin/python"
pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="needs the environment of the site: run `make docs`"
)


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [PYTHON, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    handler = functools.partial(_Handler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_site_works_in_a_browser_without_a_network(scheme, site):
    expect.set_options(timeout=60_000)  # on a busy machine
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(color_scheme=scheme)
        requests, errors = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(error))
        for name in ("index", "tutorial", "architecture", "reference/cli", "reference/python"):
            page.goto(f"{site}{name}.html")
            expect(page.locator("article h1")).to_be_visible()
            page.wait_for_load_state("networkidle")
        theme = "default" if scheme == "light" else "slate"
        expect(page.locator("body")).to_have_attribute("data-md-color-scheme", theme)
        # The search reads what is typed by key; it does not notice a value that is set.
        page.get_by_role("textbox", name="Search").press_sequentially("rebuild-registry")
        expect(page.locator(".md-search-result__item").first).to_be_visible()
        assert [url for url in requests if not url.startswith((site, "data:", "blob:"))] == []
        assert errors == []
        browser.close()
