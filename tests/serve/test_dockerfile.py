"""What of the Dockerfile can be tried without Docker."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from conftest import ROOT

TEXT = (ROOT / "Dockerfile").read_text()


def words_of(instruction: str) -> list[str]:
    """The list that an instruction runs."""
    found = re.search(rf"^ *{instruction} (\[.*\])$", TEXT, re.MULTILINE)
    assert found
    return json.loads(found[1])


def test_what_is_copied_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = [word for line in re.findall(r"^COPY (.*)$", TEXT, re.MULTILINE) for word in line.split()[:-1]]
    assert "paddlevid" in copied
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored


def test_the_health_check_tells_a_server_that_runs_from_none(start_server):
    server = start_server()
    python, *rest = words_of(r"CMD(?= \[\"python)")
    assert python == "python"
    command = [sys.executable, *(word.replace("8000", str(server.port)) for word in rest)]
    assert subprocess.run(command, check=False, timeout=20).returncode == 0
    server.stop()
    assert subprocess.run(command, check=False, timeout=20, capture_output=True).returncode != 0


def test_the_command_is_one_that_the_server_understands(monkeypatch):
    from paddlevid.serve.cli import parse_arguments

    assert words_of("ENTRYPOINT") == ["paddlevid-serve"]
    monkeypatch.setattr(sys, "argv", ["paddlevid-serve", "/model", "--host", "0.0.0.0"])
    args = parse_arguments()
    assert (args.folder, args.host, args.port) == ("/model", "0.0.0.0", 8000)
    assert '\nCMD ["/model", "--host", "0.0.0.0"]' in TEXT
