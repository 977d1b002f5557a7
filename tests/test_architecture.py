"""Who may import whom, read from the syntax trees, and what importing may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "paddlevid"
COMMANDS = [ROOT / "main.py", *sorted((ROOT / "tools").glob("*.py"))]

# From the ground up: a part imports from its own row and from those before it.
ROWS = [
    {"errors", "processes", "runtime", "schema", "config", "ranks", "watch"},
    {"models", "data"},
    {"build", "modality", "losses", "optim", "metrics", "weights", "precision", "pictures"},
    {"optimizer_state", "sharding", "ema", "checkpoint", "journal"},
    {"evaluate", "report", "training"},
    {"train", "testing", "deploy", "prepare", "fusion"},
    {"serve", "demo", "doctor"},
]
PARTS = set.union(*ROWS)


def modules() -> dict[str, Path]:
    """Dotted name -> file of each module of the package, but the package itself."""
    files = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del files["paddlevid"]
    return files


MODULES = modules()


def imports(tree: ast.AST, module: str, path: Path) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it: `from a.b import c` gives a.b.c."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = [*base, node.module] if node.module else base
            yield from (".".join([*prefix, alias.name]) for alias in node.names)


def imported_parts(module: str, path: Path) -> set[str]:
    """The parts of the package that a file imports, less the one it belongs to."""
    names = imports(ast.parse(path.read_text(encoding="utf-8")), module, path)
    parts = {name.split(".")[1] for name in names if name.startswith("paddlevid.")}
    return (parts & PARTS) - {part_of(module)}


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_the_reader_of_imports() -> None:
    tree = ast.parse(
        "import a.b\nfrom .x import y\ndef f():\n    from ..errors import E\n    from paddlevid import build"
    )
    path = PACKAGE / "data" / "video.py"
    assert set(imports(tree, "paddlevid.data.video", path)) == {
        "a.b",
        "paddlevid.data.x.y",
        "paddlevid.errors.E",
        "paddlevid.build",
    }


def test_each_part_has_its_row() -> None:
    assert {part_of(module) for module in MODULES} == PARTS


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_to_the_own_row_or_those_before(module: str) -> None:
    row = next(i for i, parts in enumerate(ROWS) if part_of(module) in parts)
    allowed = set.union(*ROWS[: row + 1])
    if part_of(module) in {"models", "data"}:
        # A model is made from plain arguments and works alone in a notebook; so do the data.
        allowed = {"errors", "processes", "runtime"}
    assert imported_parts(module, MODULES[module]) <= allowed


@pytest.mark.parametrize("path", [*MODULES.values(), *COMMANDS], ids=lambda path: str(path.relative_to(ROOT)))
def test_only_main_imports_the_training_loop(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if path.name != "main.py":
        assert "train" not in imported_parts(module, path)


def test_only_config_reads_yaml() -> None:
    readers = {
        module
        for module, path in MODULES.items()
        if any(
            name.split(".")[0] == "yaml" for name in imports(ast.parse(path.read_text(encoding="utf-8")), module, path)
        )
    }
    assert readers == {"paddlevid.config"}


def test_what_runs_an_exported_folder_needs_no_paddle() -> None:
    makers = {"paddlevid.deploy.export", "paddlevid.deploy.graphs", "paddlevid.deploy.verify"}
    names = [
        name
        for name in MODULES
        if part_of(name) in {"deploy", "serve", "demo", "data", "prepare"} and name not in makers
    ]
    names = [name for name in names if name not in {"paddlevid.data.loader", "paddlevid.serve.__main__"}]
    script = f"""
import importlib, sys
sys.modules["paddle"] = None
for name in {names}:
    importlib.import_module(name)
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_imports_are_silent_and_leave_the_process_alone() -> None:
    names = list(MODULES)
    script = f"""
import importlib, logging, signal, threading, warnings
warnings.filterwarnings("ignore", message="No ccache found")
import paddle, numpy
state = lambda: (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), logging.root.handlers[:],
                 threading.active_count(), numpy.random.get_state()[1].tolist())
before = state()
for name in {names}:
    importlib.import_module(name)
assert state() == before
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_help_imports_nothing_heavy(path: Path) -> None:
    script = f"""
import runpy, sys
sys.argv = [{str(path)!r}, "--help"]
try:
    runpy.run_path({str(path)!r}, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("HEAVY:", *sorted({{"paddle", "cv2", "pydantic"}} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "usage:" in run.stdout
    assert run.stdout.splitlines()[-1] == "HEAVY:"
