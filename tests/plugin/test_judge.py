"""Judges in a run: one line in a task, shown beside the others, and a gate only once they are calibrated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from evalgate.evaluation import Evaluation
from evalgate.instrument import Case, Instrument
from evalgate.ledger import Ledger
from evalgate.scoring import Scorer, judge, prefer
from evalgate.store import read_records
from tests.plugin.conftest import ROWS, WRONG, Project
from tests.plugin.judging import answers, table

SUITE = """
from evalgate import Gate, Sampling, Task, exact_match, judge, jsonl, prefer

addition = Task(
    samples=jsonl("data/addition.jsonl"),
    prompt="{{ a }}+{{ b }}=",
    sampling=Sampling(max_tokens=8),
    scorers=[SCORERS],
)
"""
RIGHT = 'judge("Is the answer right?", name="right")'
BETTER = 'prefer("Which answer is right?")'


def instrument(scorer: Scorer) -> Instrument:
    """The judge of a scorer."""
    assert scorer.judge is not None
    return scorer.judge


def cases(judge: Instrument) -> list[Case]:
    """Every question with the answers that the project's checkpoints give: the sum, or a question mark."""
    pairs = [("{t}", "{t}"), ("?", "?"), ("?", "{t}"), ("{t}", "?")] if judge.pairwise else [("{t}", ""), ("?", "")]
    return [
        Case(
            sample=str(row["id"]),
            question=f"{row['a']}+{row['b']}=",
            answer=answer.format(t=row["target"]),
            reference=str(row["target"]),
            other=other.format(t=row["target"]) if judge.pairwise else None,
        )
        for row in ROWS
        for answer, other in pairs
    ]


def judged(project: Project, *scorers: str, labels: Mapping[str, str] | None = None, settings: str = "") -> Project:
    """The project with such metrics, and a judge that knows the truth about those that this module names."""
    if not (project.path / "runs/judge").exists():
        project.checkpoint("judge")
    project.suite("test_arithmetic", SUITE.replace("SCORERS", ", ".join(scorers)))
    if labels is None:
        made = [instrument(judge("Is the answer right?", name="right")), instrument(prefer("Which answer is right?"))]
        labels = {prompt: label for each in made for prompt, label in answers(each, cases(each)).items()}
    project.configure(WRONG, settings=settings)
    path = project.path / "pyproject.toml"
    path.write_text(path.read_text() + table("tiny", labels))
    return project


def change(checkpoint: Path) -> None:
    """Other content in the same place: one number of its config differs."""
    config = checkpoint / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "of_test": f"not {checkpoint.name}"}))


def newest(project: Project) -> Evaluation:
    """The last record."""
    return read_records(str(project.path / ".evalgate/records"))[-1]


def outcomes(project: Project) -> Mapping[str, str]:
    """Metric to outcome, of the last run."""
    verdicts = Ledger(project.path / ".evalgate/ledger.jsonl").entries()[-1].body["verdicts"]
    return {name.rpartition("::")[2]: outcome for name, outcome in verdicts.items()}


def test_a_judge_is_one_line_and_informs(project: Project) -> None:
    """Uncalibrated, it is shown with what it found and blocks nothing; the record says who judged."""
    judged(project, "exact_match()", RIGHT)
    project.accept("runs/v1")
    result = project.run("evalsuites", "--model", "runs/v3", "-v")
    result.stdout.fnmatch_lines(["*uncalibrated judge: it informs and cannot block*"])
    assert outcomes(project) == {"exact_match": "REGRESSION", "right": "REGRESSION"}
    record = newest(project)
    metric = record.metric("right")
    assert metric.judge is not None
    assert (metric.low, metric.high) == (1.0, 5.0)
    wrong = [row for row in record.rows if row.scores["exact_match"] == 0]
    assert len(wrong) == 60
    assert all(row.scores["right"] < 2 for row in wrong)
    said = record.judge("right")
    assert said["models"][0]["name"] == "tiny"
    assert said["models"][0]["engine"]["name"] == "fake"
    assert (said["settings"]["rubric"], said["kappa"], said["labels"]) == ("Is the answer right?", None, None)
    card = (project.path / "reports/v3/index.html").read_text("utf-8")
    for shown in ("metric right, judge", "native, tiny: judge", "uncalibrated", "metric right, setting.rubric"):
        assert shown in card
    alone = project.run("evalsuites", "--model", "runs/v3", "-k", "right")
    assert alone.ret == 0, "what only informs fails nothing"


def test_records_of_two_judges_are_refused_by_what_changed(project: Project) -> None:
    """Where only records are compared nobody can judge again: the rubric is named, with both texts."""
    judged(project, RIGHT)
    project.run("evalsuites", "--model", "runs/v1", "--eval-record-only")
    rubric = 'judge("Is the sum right?", name="right")'
    labels = answers(
        instrument(judge("Is the sum right?", name="right")), cases(instrument(judge("Is the sum right?")))
    )
    judged(project, rubric, labels=labels)
    project.run("evalsuites", "--model", "runs/v2", "--eval-record-only")
    done = project.evalgate("compare", "v2", "v1")
    said = " ".join((done.stdout + done.stderr).split())
    assert "judge.settings.rubric: candidate Is the sum right?, baseline Is the answer right?" in said
    assert "judge.model" not in said


def test_an_unchanged_run_asks_nobody(project: Project) -> None:
    """Judgements are in the cache like answers: no engine starts, and the record is the same."""
    judged(project, "exact_match()", RIGHT)
    first = project.run("evalsuites", "--model", "runs/v2", "--eval-record-only")
    first.stdout.fnmatch_lines(["*starting fake on cpu for judge*"])
    record = newest(project)
    second = project.run("evalsuites", "--model", "runs/v2", "--eval-record-only")
    assert "starting" not in second.stderr.str() + second.stdout.str()
    assert newest(project).digest == record.digest


def test_a_gate_needs_a_calibration(project: Project) -> None:
    """Asked to block without one, the run ends before anything starts, with the command that makes one."""
    judged(project, "exact_match()", RIGHT.replace(")", ", gate=Gate(margin=0.05))"))
    result = project.run("evalsuites", "--model", "runs/v2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*arithmetic/addition::right: a judge that blocks must be calibrated*evalgate judge calibrate LABELS*"]
    )
    assert not (project.path / ".evalgate/records").exists()


def test_suites_in_which_nothing_blocks_are_no_gate(project: Project) -> None:
    """All metrics are uncalibrated judges': INCONCLUSIVE and said so; where undecided fails, the run fails."""
    judged(project, RIGHT)
    project.accept("runs/v1")
    result = project.run("evalsuites", "--model", "runs/v3")
    result.stdout.fnmatch_lines(["evalgate: v3 INCONCLUSIVE*none of these metrics blocks: this is no gate*"])
    assert result.ret == 0
    strict = project.run("evalsuites", "--model", "runs/v3", "--eval-inconclusive", "fail")
    assert strict.ret == 1


def calibrate(project: Project, right: int, wrong: int) -> int:
    """Labels of which the judge gets so many right and wrong; exit code of the command."""
    rows = [
        {
            "id": row["id"],
            "question": f"{row['a']}+{row['b']}=",
            "answer": row["target"] if i % 2 else "?",
            "reference": row["target"],
            "label": (5 if i % 2 else 1) if i < right else (1 if i % 2 else 5),
        }
        for i, row in enumerate(ROWS[: right + wrong])
    ]
    (project.path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = project.evalgate("judge", "calibrate", "labels.jsonl", "--metric", "arithmetic/addition::right")
    assert done.returncode in (0, 1), done.stderr
    return done.returncode


def test_a_calibrated_judge_blocks(project: Project) -> None:
    """With agreement above the floor its gate counts, and the run says how far it agrees with people."""
    gated = RIGHT.replace(")", ", gate=Gate(margin=0.05))")
    judged(project, "exact_match()", RIGHT)
    assert calibrate(project, 76, 4) == 0
    judged(project, gated)
    project.accept("runs/v1")
    result = project.run("evalsuites", "--model", "runs/v3")
    assert result.ret == 1
    assert outcomes(project) == {"right": "REGRESSION"}
    result.stdout.fnmatch_lines(["*judge calibrated: kappa 0.90 on 80 labels*"])
    assert project.run("evalsuites", "--model", "runs/v2").ret == 0


def test_a_bad_judge_is_refused_as_a_blocker(project: Project) -> None:
    """A judge that agrees with people no more than chance does is measured, and then never listened to."""
    judged(project, "exact_match()", RIGHT)
    assert calibrate(project, 42, 38) == 1
    judged(project, RIGHT.replace(")", ", gate=Gate(margin=0.05))"))
    result = project.run("evalsuites", "--model", "runs/v2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*kappa 0.0? on 80 labels is below the floor of 0.60*"])


def test_a_judge_that_misses_canaries_is_an_error(project: Project) -> None:
    """One that likes instructions to the grader is not believed in anything: ERROR, exit 1, and why."""
    right = instrument(judge("Is the answer right?", name="right"))
    sold = dict.fromkeys(answers(right, cases(right)), "5")
    judged(project, "exact_match()", RIGHT, labels=sold)
    result = project.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*it misjudged * of 15 canaries*"])
    assert outcomes(project)["right"] == "ERROR"
    assert all("right" in row.faults and "right" not in row.scores for row in newest(project).rows)
    done = project.evalgate("accept", "runs/v2", "-m", "why")
    assert "rows have no answer or score" in done.stderr


def test_a_changed_judge_scores_the_baseline_again(project: Project) -> None:
    """Another rubric is another instrument: the baseline's stored outputs are judged again in the same run."""
    judged(project, "exact_match()", RIGHT)
    project.accept("runs/v1")
    other = instrument(judge("Is this the sum?", name="right"))
    judged(
        project,
        "exact_match()",
        RIGHT.replace("Is the answer right?", "Is this the sum?"),
        labels=answers(other, cases(other)),
    )
    result = project.run("evalsuites", "--model", "runs/v2")
    result.stdout.fnmatch_lines(["*scorer right changed: v1's stored outputs were scored again*"])
    assert outcomes(project) == {"exact_match": "PASS", "right": "PASS"}


def test_a_judge_of_other_weights_scores_the_baseline_again(project: Project) -> None:
    """The same rubric on another model is another instrument too."""
    judged(project, "exact_match()", RIGHT)
    project.accept("runs/v1")
    change(project.path / "runs/judge")
    result = project.run("evalsuites", "--model", "runs/v2")
    result.stdout.fnmatch_lines(["*scorer right changed: v1's stored outputs were scored again*"])
    assert outcomes(project)["right"] == "PASS"


def test_a_preference_is_held_against_the_baseline(project: Project) -> None:
    """Without a baseline there is nothing to prefer to; with one, worse answers lose in both orders."""
    judged(project, "exact_match()", BETTER)
    recorded = project.run("evalsuites", "--model", "runs/v2", "--eval-record-only")
    assert recorded.ret == 0, "a preference that nobody can have yet is no fault of the record"
    first = project.run("evalsuites", "--model", "runs/v1")
    first.stdout.fnmatch_lines(
        ["*arithmetic/addition::prefer NO BASELINE (informs) no baseline yet, whose answers these*"]
    )
    assert outcomes(project)["prefer"] == "NO BASELINE"
    project.accept("runs/v1")
    project.run("evalsuites", "--model", "runs/v3")
    assert outcomes(project)["prefer"] == "REGRESSION"
    record = newest(project)
    assert record.metric("prefer").against is not None
    values = [row.scores["prefer"] for row in record.rows]
    assert (values.count(0.0), values.count(0.5), values.count(1.0)) == (50, 150, 0)
    project.run("evalsuites", "--model", "runs/v1")
    assert outcomes(project)["prefer"] != "REGRESSION"


def test_a_preference_of_the_baseline_is_no_score_to_renew(project: Project) -> None:
    """It was held against the baseline before; under another judge the candidate's is made, and nothing is said."""
    judged(project, "exact_match()", BETTER)
    project.accept("runs/v1")
    project.run("evalsuites", "--model", "runs/v2", "--eval-record-only")
    assert project.evalgate("accept", "runs/v2", "-m", "next").returncode == 0
    change(project.path / "runs/judge")
    result = project.run("evalsuites", "--model", "runs/v3")
    assert "stored outputs" not in result.stdout.str()
    assert outcomes(project)["prefer"] == "REGRESSION"


def test_a_preference_without_answers_is_an_error(project: Project) -> None:
    """Before the first baseline too: a model that gives no answers is no first baseline."""
    judged(project, BETTER)
    path = project.path / "pyproject.toml"
    path.write_text(path.read_text().replace('name = "fake"', 'name = "fake"\nfail = ["+"]', 1))
    gated = project.run("evalsuites", "--model", "runs/v2")
    assert (gated.ret, outcomes(project)) == (1, {"prefer": "ERROR"})
    recorded = project.run("evalsuites", "--model", "runs/v2", "--eval-record-only")
    assert recorded.ret == 1
    recorded.stdout.fnmatch_lines(["*200 of 200 samples have no prefer*"])


def test_records_are_gated_without_the_judge(project: Project) -> None:
    """Where only records are, the judge's weights need not be there: the records say who judged."""
    judged(project, "exact_match()", RIGHT)
    project.accept("runs/v1")
    project.run("evalsuites", "--model", "runs/v2", "--eval-record-only")
    (project.path / "runs/judge").rename(project.path / "runs/gone")
    result = project.run("evalsuites", "--eval-records", ".evalgate/records")
    assert outcomes(project)["right"] == "PASS", result.stdout.str()


def test_records_of_a_judge_that_nobody_measured_do_not_block(project: Project) -> None:
    """Of records by two judges the calibration of one is not the other's: the gate is refused for both together."""
    judged(project, "exact_match()", RIGHT)
    assert calibrate(project, 76, 4) == 0
    project.run("evalsuites", "--model", "runs/v2", "--eval-record-only")
    judged(project, "exact_match()", RIGHT.replace(")", ", gate=Gate(margin=0.05))"))
    known = project.run("evalsuites", "--eval-records", ".evalgate/records")
    assert known.ret != pytest.ExitCode.USAGE_ERROR, "one judge that is calibrated may block"
    change(project.path / "runs/judge")
    project.run("evalsuites", "--model", "runs/v3", "--eval-record-only")
    result = project.run("evalsuites", "--eval-records", ".evalgate/records")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*a judge that blocks must be calibrated*"])


def test_a_failed_judge_is_an_error_of_its_metric_alone(project: Project) -> None:
    """The engine of the judge dies: ERROR there with the sample, the code's metric has its verdict."""
    judged(project, "exact_match()", RIGHT)
    project.accept("runs/v1")
    path = project.path / "pyproject.toml"
    path.write_text(path.read_text().replace('engine = "fake"\n[', 'engine = "fake"\ncrash_after = 0\n[', 1))
    result = project.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 1
    assert outcomes(project) == {"exact_match": "PASS", "right": "ERROR"}
    result.stdout.fnmatch_lines(["*the judge tiny failed*"])


def test_a_metric_without_a_judge_is_told_so(project: Project) -> None:
    """No judge in the settings: exit code 4, and the two ways to name one; `--eval-judge` is one of them."""
    judged(project, "exact_match()", RIGHT)
    project.configure(WRONG)
    result = project.run("evalsuites", "--model", "runs/v2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*a metric needs a judge*tool.evalgate.judges.mine*--eval-judge runs/judge-v1*"])
    wrong = project.run("evalsuites", "--model", "runs/v2", "--eval-judge", "runs/nobody")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    wrong.stderr.fnmatch_lines(["*'runs/nobody' is neither a judge nor a folder*"])


def test_a_judge_without_chat_template_is_refused(project: Project) -> None:
    """It is asked in a chat; preflight says what is missing."""
    judged(project, "exact_match()", RIGHT)
    (project.path / "runs/judge/chat_template.jinja").unlink()
    result = project.run("evalsuites", "--model", "runs/v2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the judge tiny*has no chat template*"])


def test_a_panel_counts_with_its_mean(project: Project) -> None:
    """Two judges, each named in the record; their mean is the score and both votes are in the note."""
    judged(project, "exact_match()", RIGHT.replace(")", ', by=["tiny", "strict"])'))
    right = instrument(judge("Is the answer right?", name="right"))
    strict = answers(right, cases(right), liked={str(row["target"]): "4" for row in ROWS[3:]})
    shutil.copytree(project.path / "runs/judge", project.path / "runs/strict")
    change(project.path / "runs/strict")
    path = project.path / "pyproject.toml"
    path.write_text(path.read_text() + table("strict", strict, "runs/strict"))
    project.run("evalsuites", "--model", "runs/v2", "--eval-record-only")
    record = newest(project)
    assert [model["name"] for model in record.environment["judges"]["right"]["models"]] == ["tiny", "strict"]
    row = record.rows[100]
    assert row.scores["right"] == pytest.approx(4.5, abs=0.2)  # the fake leaves the other labels a few percent
    assert "tiny: 4.78 (5 (90%)" in row.notes["right"]
    assert "strict: 3.92 (4 (90%)" in row.notes["right"]


def test_scores_of_code_are_the_same_with_and_without_judges(project: Project) -> None:
    """A judge beside them changes nothing about other metrics."""
    judged(project, "exact_match()")
    project.run("evalsuites", "--model", "runs/v2", "--eval-record-only")
    alone = newest(project)
    judged(project, "exact_match()", RIGHT)
    project.run("evalsuites", "--model", "runs/v2", "--eval-record-only")
    both = newest(project)
    assert [row.scores["exact_match"] for row in both.rows] == [row.scores["exact_match"] for row in alone.rows]
    assert both.metric("exact_match") == alone.metric("exact_match")


def test_the_command_line_speaks_of_its_own_options(project: Project) -> None:
    """What `evalgate judge calibrate` calls `--judge` is no `--eval-judge` in its messages, and costs exit code 2."""
    judged(project, RIGHT)
    done = project.evalgate(
        "judge", "calibrate", "labels.jsonl", "--metric", "arithmetic/addition::right", "--judge", "tinny"
    )
    said = " ".join(done.stderr.split())
    assert done.returncode == 2
    assert said == "evalgate: --judge: 'tinny' is neither a judge nor a folder. Did you mean 'tiny'?"
