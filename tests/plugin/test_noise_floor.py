"""`--eval-baseline-model`: some baseline prompts are asked again of the weights that answered them."""

from __future__ import annotations

import json
import shutil

from tests.plugin.conftest import WRONG, Project


def test_the_baseline_is_asked_again_where_its_checkpoint_is_known(accepted: Project) -> None:
    """48 prompts, the same tokens, in the engine that starts anyway; the setting does what the flag does."""
    result = accepted.run("evalsuites", "--model", "runs/v2", "--eval-baseline-model", "runs/v1")
    assert result.ret == 0
    line = "noise floor: 48 baseline prompts of v1 answered again, token-identical*"
    result.stdout.fnmatch_lines([line])
    accepted.configure(WRONG, 'baseline_model = "runs/v1"')
    accepted.run("evalsuites", "--model", "runs/v3").stdout.fnmatch_lines([line])


def test_a_checkpoint_that_answers_otherwise_today_is_measured(accepted: Project) -> None:
    """The same weights give other answers (another engine, say): the flip rate is said, kept, and planned with."""
    accepted.configure({**WRONG, "v1": 150})
    shutil.rmtree(accepted.path / ".evalgate")
    result = accepted.run("evalsuites", "--model", "runs/v2", "--eval-baseline-model", "runs/v1")
    result.stdout.re_match_lines([r"noise floor: \d+ of 48 answers of v1 differ when asked again, \d+ scores flip .*"])
    entries = [json.loads(line) for line in (accepted.path / ".evalgate/ledger.jsonl").read_text().splitlines()]
    [noise] = [entry["body"]["noise"] for entry in entries if entry["kind"] == "verdict"]
    assert noise["prompts"] == 48
    assert noise["flipped"] > 20
    planned = json.loads(accepted.evalgate("plan", "--json").stdout)
    assert planned["metrics"][0]["psi"] >= noise["flipped"] / 48


def test_nothing_is_asked_where_no_engine_starts_or_the_checkpoint_is_not_known(accepted: Project) -> None:
    """No engine for the canary's sake, and no wrong weights in the baseline's place."""
    silent = accepted.run("evalsuites", "--model", "runs/v2")
    assert "noise floor" not in silent.stdout.str()
    cached = accepted.run("evalsuites", "--model", "runs/v2", "--eval-baseline-model", "runs/v1")
    cached.stdout.fnmatch_lines(["0 answers generated*(no engine started)"])
    assert "noise floor" not in cached.stdout.str()
    other = accepted.run("evalsuites", "--model", "runs/v3", "--eval-baseline-model", "runs/v2")
    assert "noise floor" not in other.stdout.str()
