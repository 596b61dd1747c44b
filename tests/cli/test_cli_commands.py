"""The command line: it starts fast, its help shows examples, and it reports a mistake without a traceback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pangeo_binder import __version__
from pangeo_binder.cli import _COMMANDS, group
from pangeo_binder.cli.terminal import make_console, status_line
from pangeo_binder.deploy.local.values import free_port
from tests.stack.local import COMMAND
from tests.stack.repository import repository

HEAVY = {
    "aiohttp", "asyncio", "binderhub", "dask_gateway_server", "jinja2", "jupyterhub", "obstore", "prometheus_client",
    "pydantic", "rich", "sqlalchemy", "tornado", "traitlets", "urllib.request", "yaml",
}  # fmt: skip


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *args], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in _COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Check the imports instead of the time, because imports make `--help` slow."""
    code = (
        "import json, sys\nfrom pangeo_binder.cli import group\n"
        f"group({arguments}, standalone_mode=False)\nprint('MODULES', json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout.partition("MODULES ")[2]))
    assert not HEAVY & modules


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_shows_an_example(name: str) -> None:
    shown = CliRunner().invoke(group, [name, "--help"])
    assert shown.exit_code == 0
    assert f"\n    pangeo-binder {name}" in shown.output.partition("Example")[2], shown.output


def test_help_lists_all_commands_and_says_where_to_start() -> None:
    shown = CliRunner().invoke(group, ["--help"]).output
    files = {path.stem for path in Path(sys.modules[group.__module__].__file__ or "").parent.glob("*.py")}
    assert set(_COMMANDS) == files - {"__init__", "reporef", "terminal"}
    assert all(f"  {name} " in shown for name in _COMMANDS)
    assert "Start here:" in shown


def test_a_file_gets_no_status_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as many CI systems do
    console = make_console()
    with status_line(console, "Starting …") as show:
        console.print("Started: hub", highlight=False)
        show("Starting … waiting for binder")
    assert capsys.readouterr().out == "Started: hub\n"


def test_options_are_all_explained() -> None:
    context = click.Context(group)
    for name in _COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help or parameter.name == "form", parameter


def test_version_prints_the_version() -> None:
    assert run("--version").stdout.split() == ["pangeo-binder,", "version", __version__]


MISTAKES = [
    ("status", "--state-dir", "nowhere"),
    ("status", "--state-dir", "file/below"),
    ("badge", "no such thing"),
    *(("badge", "gh/org/repo", "--hub", hub) for hub in ("not a url", "foo", "http://[::1", "http://x:port/")),
    ("explain", "gh/onlyorg"),
    ("explain", "gh/org/repo", "--network", "zzz"),
    ("launch", "https://example.org/a/b", "--hub", "http://127.0.0.1:1/"),
    ("launch", "https://example.org/a/b", "--hub", "foo"),
    ("launch", "https://example.org/a/b", "--hub", "http://[::1"),
    ("launch", "http://[::1/v2/git/https%3A%2F%2Fexample.org%2Fa/HEAD"),
    ("up", "--policy", "/nowhere/policy.yaml", "--no-open"),
    ("up", "--state-dir", "/proc/foo", "--no-open"),
    ("up", "--state-dir", "file/below", "--no-open"),
    ("check", "/nowhere/policy.yaml"),
]


def assert_reported(arguments: tuple[str, ...], folder: Path) -> str:
    """Run the command in `folder`, check that it fails without creating a file, and return its message."""
    before = set(folder.rglob("*"))
    done = subprocess.run([COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    output = (done.stdout + done.stderr).strip()
    assert output and "Traceback" not in output and "Error" not in output
    assert set(folder.rglob("*")) == before, "a mistake creates no file"
    return output


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_reported_without_a_traceback(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_reported(arguments, tmp_path)


@pytest.mark.parametrize("content", ["{}", "x", "[1]", "null", '{"state_dir": "."}'])
@pytest.mark.parametrize("arguments", [("status",), ("badge", "gh/org/repo"), ("launch", "gh/org/repo")], ids=" ".join)
def test_a_malformed_values_file_is_reported(arguments: tuple[str, ...], content: str, tmp_path: Path) -> None:
    (tmp_path / ".state").mkdir()
    (tmp_path / ".state" / "values.json").write_text(content)
    assert "values.json" in assert_reported(arguments, tmp_path)


def test_up_on_a_port_in_use_creates_no_state_directory(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        output = assert_reported(("up", "--port", port, "--state-dir", "state", "--no-open"), tmp_path)
    assert port in output


def test_an_unknown_command_or_option_is_refused() -> None:
    origins = (["up", "--allow-origin", text] for text in ("example.org", "https://a.example/b", "https://a b", "null"))
    shared = ["up", "--share-private", "gh/*", __file__]  # names no owner
    for arguments in (shared, ["lunch"], ["up", "--prot", "1"], ["up", "--port", "0"], ["up", "--port", "x"], *origins):
        done = run(*arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_badge_links_to_the_launch_link(tmp_path: Path) -> None:
    url = repository(tmp_path / "sea", {"README.md": "Sea"})
    hub = f"http://127.0.0.1:{free_port()}"
    output = run("badge", url, "--hub", hub, "--urlpath", "lab/tree/a b.ipynb").stdout
    assert output.startswith(f"[![Launch]({hub}/badge_logo.svg)]({hub}/v2/git/file%3A%2F%2F")
    assert output.endswith("/HEAD?urlpath=lab%2Ftree%2Fa%20b.ipynb)\n")
