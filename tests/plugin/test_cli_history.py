"""`evalgate history`: the versions that were gated, and what became of each metric."""

from __future__ import annotations

import json

from tests.plugin.conftest import Project

EXACT, NUMERIC = "arithmetic/addition::exact_match", "arithmetic/addition::numeric"


def test_nothing_gated_yet_is_said(accepted: Project) -> None:
    """What was only recorded is no history: a line says what to do, and machines read an empty list."""
    nothing = accepted.evalgate("history")
    assert (nothing.returncode, nothing.stderr) == (0, "")
    assert nothing.stdout == "nothing was gated yet: pytest evalsuites/ --model runs/v1\n"
    assert json.loads(accepted.evalgate("history", "--json").stdout) == []


def test_every_version_and_its_trends_are_told(gated: Project) -> None:
    """Oldest first, one row each, then a row per metric; for one task, for the newest, and for machines."""
    told = gated.evalgate("history")
    assert (told.returncode, told.stderr) == (0, "")
    assert "\x1b" not in told.stdout
    rows = [line.split() for line in told.stdout.splitlines()]
    assert [row[0] for row in rows[2:4]] == ["v2", "v3"]
    assert rows[2][3:5] == ["✓", "PASS"]
    assert rows[3][3:] == ["✗", "REGRESSION", "0", "of", "1", EXACT, "-25.0", "pt"]
    assert rows[5] == ["metric", "v2", "v3", "trend"]
    assert rows[7] == [EXACT, ".955", ".700", "✗", "-25.5", "pt", "since", "v2"]
    assert NUMERIC not in told.stdout

    assert NUMERIC in gated.evalgate("history", "--task", "arithmetic/addition").stdout
    last = gated.evalgate("history", "--last", "1").stdout
    assert [line.split()[0] for line in last.splitlines()[2:3]] == ["v3"]
    assert "v2  " not in last
    assert "-25.5 pt since v2" in last

    machines = json.loads(gated.evalgate("history", "--json", "--last", "1").stdout)
    assert [each["name"] for each in machines] == ["v3"]
    assert machines[0]["metrics"][EXACT]["value"] == 0.7
    assert machines[0]["card"] == "v3/index.html"

    wrong = gated.evalgate("history", "--task", "arithmetic/additoin")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "Did you mean arithmetic/addition?" in wrong.stderr
