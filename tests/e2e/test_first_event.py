"""docs/first-event.md is true: its commands run as they stand, and answer what it shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.examples import blocks, differs
from fixtures_postgres import Run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "first-event.md").read_text("utf-8")
ADDRESS = "http://127.0.0.1:8787"
PATIENCE_S = 120


def _environment(folder: Path, home: Path) -> dict[str, str]:
    """Return an environment in which ``tallybook`` is this checkout, with a home of its own."""
    program = folder / "tallybook"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m adapters.bootstrap "$@"\n')
    program.chmod(0o755)
    made = {name: value for name, value in os.environ.items() if not name.startswith("TALLYBOOK_")}
    path = os.pathsep.join([str(ROOT), made.get("PYTHONPATH", "")])
    return made | {
        "PATH": f"{folder}{os.pathsep}{made['PATH']}",
        "PYTHONPATH": path,
        "TALLYBOOK_HOME": str(home),
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _shell(commands: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euc", commands],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class _Reader:
    """Follows the page, with another port and another data directory.

    Args:
        environment: of its shells.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.server: subprocess.Popen[str] | None = None
        self.compared = 0
        self._port = _free_port()
        self._said = ""
        self._exports = ""

    def take(self, kind: str, text: str) -> None:
        """Run a block, or compare what the one before it answered."""
        text = text.replace(ADDRESS, f"http://127.0.0.1:{self._port}")
        if kind == "sh" and "pip install" in text:
            return  # the environment of the tests is what this makes
        if kind == "sh" and text.startswith("tallybook up"):
            self._start(text)
        elif kind == "sh":
            text = text.replace("tbk_live_…", self.environment.get("KEY_SHOWN", ""))
            if text.startswith("export "):
                self._exports += text
            self._said = _shell(self._exports + text, self.environment)
        elif kind == "text":
            wanted = re.escape(text).replace("…", ".+")
            assert re.fullmatch(wanted, self._said), self._said
        else:
            assert differs(json.loads(text), json.loads(self._said)) == "", self._said
            self.compared += 1

    def _start(self, command: str) -> None:
        self.server = subprocess.Popen(
            ["bash", "-c", f"exec {command.strip()} --port {self._port}"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.server.stdout is not None
        self._said = "".join(self.server.stdout.readline() for _ in range(3))
        key = re.search(r"tbk_live_\w+", self._said)
        assert key is not None, self._said
        self.environment["KEY_SHOWN"] = key[0]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl")
def test_the_page_for_beginners_runs_as_it_stands(postgres_run: Run, tmp_path: Path) -> None:
    """From a data directory that is not there to an amount that is explained."""
    with postgres_run.other_home() as home:
        reader = _Reader(_environment(tmp_path, home))
        try:
            for kind, text in blocks(PAGE):
                reader.take(kind, text)
            assert reader.compared == 9
            assert reader.server is not None
            reader.server.send_signal(signal.SIGINT)
            assert reader.server.wait(PATIENCE_S) == 0
        finally:
            if reader.server is not None:
                reader.server.kill()
                reader.server.communicate()
