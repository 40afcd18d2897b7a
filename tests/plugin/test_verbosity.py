"""`-q`, `-v`, colours and widths: what a run says to a person at a terminal, and to a log."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

from tests.plugin.conftest import Project

ADDED = ("blocking metric ", "pooled over blocking metrics: ")  # by -v
COLOUR = r"\x1b\[[0-9;]*m"
FAMILY = r"evalgate: {} (PASS|REGRESSION)  "


def ours(text: str) -> list[str]:
    """The lines of a log that evalgate says at the end."""
    return [line for line in text.splitlines() if line.startswith("evalgate: v")]


def at_a_terminal(project: Project, *args: str, columns: int = 120, **environment: str) -> str:
    """What pytest writes to a terminal of some width."""
    ours, theirs = pty.openpty()
    unset = {"NO_COLOR", "FORCE_COLOR", "PY_COLORS", "CI"}
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args]
    env = {**inherited, "TERM": "xterm-256color", "COLUMNS": str(columns), **environment}
    with subprocess.Popen(command, cwd=project.path, env=env, stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end was closed
                break
            if not part:
                break
            said += part
        process.wait(timeout=120)
    os.close(ours)
    return said.decode("utf-8", "replace").replace("\r\n", "\n")


def plain(text: str) -> str:
    """Without escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_log_has_one_line_per_verdict(two_suites: Project) -> None:
    """Each metric and each checkpoint stands in one line that can be found by its words, however narrow the log is."""
    said = two_suites.run("evalsuites", "--model", "runs/v2", "--model", "runs/v3").stdout.str()
    for name, word in (("v2", "PASS"), ("v3", "REGRESSION")):
        lines = [line for line in ours(said) if line.startswith(f"evalgate: {name} ") and " · " not in line]
        assert len(lines) == 4
        assert re.match(FAMILY.format(name), lines[0])
        for metric in (
            "arithmetic/addition::exact_match",
            "arithmetic/addition::numeric",
            "second/doubling::exact_match",
        ):
            (line,) = (line for line in lines if line.startswith(f"evalgate: {name} {metric} {word}"))
            assert re.search(r" [-+]\d+\.\d pt \[[-+]\d+\.\d, [-+]\d+\.\d\] n=200 was \.\d{3} now \.\d{3}$", line)
        assert "(informs)" in lines[-1]
        assert said.count(f"  Card: reports/{name}/index.html") == 1
    assert "\x1b" not in said
    assert "answers generated" in said
    assert not any(words in said for words in ADDED)


def test_quiet_says_one_line_per_checkpoint(accepted: Project) -> None:
    """With -q nothing of ours is said but outcome, reason and card of each checkpoint: no progress, no notes."""
    result = accepted.run("evalsuites", "--model", "runs/v2", "--model", "runs/v3", "-q", "--tb=no", "--no-summary")
    assert result.ret == 1
    assert [line for line in result.stdout.str().splitlines() if "evalgate" in line] == ours(result.stdout.str())
    v2, v3 = ours(result.stdout.str())
    assert re.match(FAMILY.format("v2") + r".*  Card: reports/v2/index\.html$", v2)
    assert re.match(FAMILY.format("v3") + r".*  Card: reports/v3/index\.html$", v3)
    for noise in ("answers generated", "noise floor", "power", "::numeric", "starting", " · "):
        assert noise not in result.stdout.str()


def test_quiet_still_says_why_it_is_no_pass(two_suites: Project) -> None:
    """What decides the exit code is said at every verbosity, and nothing more than with one -q."""
    two_suites.configure({"v1": 10, "v2": 9}, settings='required = "all"')
    result = two_suites.run("evalsuites", "--model", "runs/v2", "-qq", "-k", "addition")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["required and not run*second/doubling::exact_match*"])
    (only,) = ours(result.stdout.str())
    assert re.match(FAMILY.format("v2"), only)


def test_verbose_adds_the_power_table_and_the_pooled_test(two_suites: Project) -> None:
    """Samples, slices and pooled numbers that the default leaves out are there with -v, once; --color=no is obeyed."""
    said = at_a_terminal(two_suites, "evalsuites", "--model", "runs/v3", "-v", "--color=no", columns=200)
    for words in ADDED:
        assert said.count(words) == 1
    assert not re.search(COLOUR, said)


def test_a_terminal_gets_a_table_in_colour(accepted: Project) -> None:
    """At a terminal the verdicts stand in columns under a rule, painted; a narrow one gets two lines per metric."""
    wide = at_a_terminal(accepted, "evalsuites", "--model", "runs/v3", columns=140)
    assert "\x1b[1;31m✗ REGRESSION\x1b[0m" in wide
    row, informs = (line for line in plain(wide).splitlines() if line.startswith("  ✗ REGRESSION  "))
    assert informs.split()[2:4] == ["arithmetic/addition::numeric", "(informs)"]
    assert row.split()[2:] == [
        *("arithmetic/addition::exact_match", "-25.0", "pt", "[-30.3,", "-20.3]", "200", ".950", "→", ".700", "50/0")
    ]
    assert "─" * 60 in wide
    assert not ours(plain(wide).replace("evalgate: v3 ·", ""))
    narrow = at_a_terminal(accepted, "evalsuites", "--model", "runs/v3", columns=60, NO_COLOR="1")
    assert "  ✗ REGRESSION  arithmetic/addition::exact_match\n      -25.0 pt [-30.3, -20.3]  n=200" in narrow
    assert "\x1b[1" not in narrow


def test_the_flag_wins_over_the_environment(accepted: Project) -> None:
    """--color=yes paints our lines where NO_COLOR would leave them plain, as it does pytest's."""
    said = at_a_terminal(accepted, "evalsuites", "--model", "runs/v1", "--color=yes", columns=140, NO_COLOR="1")
    assert "\x1b[1;32m✓ PASS\x1b[0m" in said
    assert re.search(r"^  ✓ PASS +arithmetic/addition::exact_match ", plain(said), re.MULTILINE)


def test_a_poor_terminal_gets_plain_ascii(accepted: Project) -> None:
    """Where standard output holds no symbols the table is drawn in ASCII, nothing escaped; TERM=dumb gets no colour."""
    said = at_a_terminal(
        accepted, "evalsuites", "--model", "runs/v1", columns=140, PYTHONIOENCODING="ascii", TERM="dumb"
    )
    assert not re.search(COLOUR, said)
    summary = said[said.index("= evalgate =") :]
    assert "  + PASS" in summary
    assert "-" * 60 in summary
    assert ".950 -> .950" in summary
    assert summary.isascii()
    assert r"\u" not in summary
