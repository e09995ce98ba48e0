"""What the documentation says is run: Python in order, page by page, and commands in a directory of their own."""

import contextlib
import re
import shlex
import subprocess
import sys

import pytest

from mesh_runs import ROOT, TRAPLINE, environment
from plugin_runs import Journals
from trapline.common.testing.plugin import fake_lightcurves, fake_transient
from trapline.common.testing.relay import mesh_config, running_relay

DOCS = ROOT / "deploy" / "docs"
PAGES = [ROOT / "README.md", DOCS / "plugins.md", DOCS / "services.md"]


class Enough(BaseException):
    """Ends a loop that would go on for ever."""


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def address(tmp_path):
    """A relay with something on the channels that the pages read."""
    config = mesh_config(tmp_path / "mesh")
    with running_relay(config) as server:
        journals = Journals(config.journal_directory)
        journals.append(fake_transient(ra_deg=350.5), fake_lightcurves([1.0, 9.0], mean=1.0))
        yield server.address
        journals.close()


def run(code, namespace):
    """Run a block; a loop over a stream ends after its first event."""
    printed = []

    def show(*words):
        printed.append(words)
        if "subscribe" in code and len(printed) > code.count("channels()"):
            raise Enough

    namespace["print"] = show
    with contextlib.suppress(Enough):
        exec(compile(code, "snippet", "exec"), namespace)
    return printed


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_python_of_a_page_runs_from_its_top_to_its_end(page, address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"directory": tmp_path / "own", "__name__": "snippet"}
    # What reads a store is run beside a store that has something in it: test_store_tutorial.
    codes = [code for code in blocks(page, "python") if "open_store" not in code]
    codes = [code for code in codes if "key=" not in code or "own_message" in code]
    assert codes
    for code in codes:
        # A client starts with what comes next; here there is what has come.
        changed = code.replace("tcp://relay-host:7400", address).replace('start="latest"', 'start="first"')
        printed = run(changed, namespace)
        assert "subscribe(" not in code or printed or "@subscribes" in code


def test_the_commands_of_the_pages_run(tmp_path):
    mesh = tmp_path / "trapline-data" / "journal"
    journals = Journals(mesh)
    journals.append(fake_lightcurves([1.0, 9.0], mean=1.0))
    programs = {"trapline": TRAPLINE, "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]}
    lines = [line for page in PAGES for block in blocks(page, "console") for line in block.splitlines()]
    assert len(lines) >= 3
    for line in lines:
        name, *arguments = shlex.split(line.removeprefix("$ "))
        command = [*programs[name], *arguments]
        command += ["-c", "/dev/null", "--rootdir", str(tmp_path)] if name == "pytest" else []
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    journals.close()


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent == DOCS] + [DOCS / "wire.md"], ids=lambda p: p.stem)
def test_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
