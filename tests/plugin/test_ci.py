"""`--eval-ci`: what GitHub Actions and GitLab CI are told, whatever the session's end was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from evalgate.plugin.ci import add_to_summary, chosen, told_of
from tests.plugin.conftest import SUITE, WRONG, Project
from tests.plugin.hostile import ANSI, COMMANDS, FORMULAS, LINKS, MARKDOWN, active_in, commands_in, invisible


@dataclass(frozen=True)
class Job:
    """A job of GitHub Actions, as far as files go."""

    project: Project
    summary: Path
    outputs: Path

    def run(self, *args: str) -> pytest.RunResult:
        """One step."""
        for path in (self.summary, self.outputs):
            path.write_text("")
        return self.project.run("evalsuites", *args)

    @property
    def output(self) -> dict[str, str]:
        """The step's outputs."""
        found = re.findall(r"^(\w+)<<(\w+)\n(.*?)\n\2$", self.outputs.read_text(), re.MULTILINE | re.DOTALL)
        return {name: value for name, _, value in found}


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Project], Job]:
    """Makes the environment of a step."""

    def make(project: Project) -> Job:
        folder = tmp_path_factory.mktemp("runner")
        made = Job(project, folder / "summary.md", folder / "output")
        for name, value in {
            "ACTIONS": "true",
            "WORKSPACE": str(project.path.parent),
            "STEP_SUMMARY": str(made.summary),
            "OUTPUT": str(made.outputs),
            "SERVER_URL": "https://github.com",
            "REPOSITORY": "o/r",
            "RUN_ID": "17",
        }.items():
            monkeypatch.setenv(f"GITHUB_{name}", value)
        return made

    return make


Jobs = Callable[[Project], Job]


def test_github_is_told(accepted: Project, job: Jobs) -> None:
    """Annotations after pytest's last line, summary, outputs, comment, JUnit; the exit code is pytest's."""
    step = job(accepted)
    done = step.run("--model", "runs/v3", "--junit-xml", "gate.xml")
    assert done.ret == 1
    found = commands_in(done.stdout.str())
    assert [(each.name, each.properties.get("title")) for each in found] == [
        ("error", "evalgate REGRESSION: v3"),
        ("error", "REGRESSION arithmetic/addition::exact_match"),
        ("notice", "REGRESSION arithmetic/addition::numeric"),
    ]
    path = accepted.path / "evalsuites/test_arithmetic.py"
    line = path.read_text().split("\n").index("addition = Task(") + 1
    assert found[1].properties["file"] == str(path.relative_to(accepted.path.parent))
    assert found[1].properties["line"] == str(line)
    assert done.stdout.str().index(" failed") < done.stdout.str().index("::error ")
    summary = step.summary.read_text()
    assert "## ❌ REGRESSION: v3" in summary
    assert "[this run](https://github.com/o/r/actions/runs/17)" in summary
    comment = (accepted.path / "reports/comment.md").read_text()
    assert comment.startswith("<!-- evalgate -->\n## ❌ REGRESSION: v3\n")
    assert step.output == {
        "verdict": "blocked",
        "card": "reports/v3/index.html",
        "comment": f"{accepted.path.name}/reports/comment.md",
    }
    suite = ElementTree.parse(accepted.path / "gate.xml").getroot()[0]
    of_suite = properties(suite)
    assert of_suite["evalgate.candidate"] == properties(next(suite.iter("testcase")))["evalgate.candidate"] == "v3"
    assert (of_suite["evalgate.outcome"], of_suite["evalgate.blocked"]) == ("REGRESSION", "true")
    assert of_suite["evalgate.card"] == "reports/v3/index.html"
    assert of_suite["evalgate.digest"].startswith("sha256:")
    ledger = (accepted.path / ".evalgate/ledger.jsonl").read_text().splitlines()
    assert of_suite["evalgate.ledger"] == json.loads(ledger[-1])["hash"]


def properties(node: ElementTree.Element) -> dict[str, str]:
    """Of a suite or a case in a JUnit file."""
    return {str(each.get("name")): str(each.get("value")) for each in node[0]}


def test_several_candidates_are_one_summary(accepted: Project, job: Jobs) -> None:
    """A heading each, annotations that name the candidate, and outputs of the session."""
    step = job(accepted)
    done = step.run("--model", "runs/v2", "--model", "runs/v3", "--junit-xml", "gate.xml")
    found = commands_in(done.stdout.str())
    assert [each.properties["title"] for each in found if each.name == "error"] == [
        "evalgate BLOCKED: 1 of 2 candidates",
        "REGRESSION arithmetic/addition::exact_match [v3]",
    ]
    summary = step.summary.read_text()
    assert summary.index("### ✅ PASS: v2") < summary.index("### ❌ REGRESSION: v3")
    assert step.output["verdict"] == "blocked"
    assert step.output["card"] == "reports/v2/index.html\nreports/v3/index.html"
    of_suite = properties(ElementTree.parse(accepted.path / "gate.xml").getroot()[0])
    assert (of_suite["evalgate.outcome[v2]"], of_suite["evalgate.outcome[v3]"]) == ("PASS", "REGRESSION")


def test_a_pass_is_one_notice(accepted: Project, job: Jobs) -> None:
    """And what stood in the summary stays."""
    step = job(accepted)
    step.summary.write_text("what another program wrote")
    done = accepted.run("evalsuites", "--model", "runs/v2", "-q")
    assert done.ret == 0
    (only,) = commands_in(done.stdout.str())
    assert (only.name, only.properties["title"]) == ("notice", "evalgate PASS: v2")
    assert step.summary.read_text().startswith("what another program wrote\n## ✅ PASS: v2\n")
    assert step.output["verdict"] == "passed"


@pytest.mark.parametrize(
    ("args", "code", "verdict", "said"),
    [
        (("--model", "runs/v2", "-n", "2"), 4, "error", "gates do not run under pytest-xdist"),
        (("--model", "runs/v2", "-k", "nothing"), 5, "error", "no test was selected"),
        (("--model", "runs/v2", "--eval-record-only"), 0, "recorded", "nothing was compared"),
    ],
)
def test_no_verdict_leaves_no_green_page(
    accepted: Project, job: Jobs, args: tuple[str, ...], code: int, verdict: str, said: str
) -> None:
    """A mistake, a misuse, an empty selection, a recording: the summary says which, and the last comment is gone."""
    step = job(accepted)
    (accepted.path / "reports").mkdir()
    (accepted.path / "reports/comment.md").write_text("## ✅ PASS: of yesterday")
    done = step.run(*args)
    assert done.ret == code
    for text in (step.summary.read_text(), (accepted.path / "reports/comment.md").read_text()):
        assert said in text
        assert "✅" not in text
    assert step.output["verdict"] == verdict
    (only,) = commands_in(done.stdout.str())
    assert only.name == ("notice" if verdict == "recorded" else "error")


def test_no_secret_of_an_address_is_published(accepted: Project, job: Jobs) -> None:
    """What was typed stands in comment, summary and records: without user, password and query of an address."""
    step = job(accepted)
    done = step.run("--eval-records", "nowhere://me:SECRET@host/x?sig=SECRET")
    assert done.ret == 4
    comment = (accepted.path / "reports/comment.md").read_text()
    assert "--eval-records nowhere://host/x" in comment
    for text in (comment, step.summary.read_text(), done.stdout.str(), done.stderr.str()):
        assert "SECRET" not in text
    accepted.configure(settings='registry_uri = "http://me:SECRET@host"')
    assert "SECRET" not in str(step.run("--model", "runs/v2").stderr)
    assert "SECRET" not in step.summary.read_text()


def test_an_engine_that_fails_is_no_verdict(accepted: Project, job: Jobs) -> None:
    """The summary names the fault, and says ERROR."""
    accepted.configure(WRONG, crash_after=3)
    step = job(accepted)
    assert step.run("--model", "runs/v3").ret == 1
    assert "## 💥 ERROR: nothing could be evaluated" in step.summary.read_text()
    assert step.output["verdict"] == "error"


def test_a_gate_that_did_not_run_is_said(two_suites: Project, job: Jobs) -> None:
    """What `required` names and `-k` leaves out is in the summary and in the annotation."""
    two_suites.configure(WRONG, 'required = "all"')
    step = job(two_suites)
    done = step.run("--model", "runs/v2", "-k", "arithmetic")
    assert done.ret == 1
    assert "Required and not run, so this is no pass:** `second/doubling::exact_match`" in step.summary.read_text()
    assert "required and not run: second/doubling::exact_match" in commands_in(done.stdout.str())[0].data
    assert step.output["verdict"] == "blocked"


def test_a_summary_that_cannot_be_written_changes_nothing(
    accepted: Project, job: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said in a line, the other files are written, and the exit code is the verdict's."""
    step = job(accepted)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step.summary.parent))
    done = accepted.run("evalsuites", "--model", "runs/v2")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["evalgate: CI will not see *: Is a directory. The exit code says what came out."])
    assert step.output["verdict"] == "passed"


def test_a_full_summary_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no room nothing is added, and a line says so; without a summary nothing is said."""
    path = tmp_path / "summary.md"
    path.write_text("there")
    add_to_summary({"GITHUB_STEP_SUMMARY": str(path)}, lambda there: None if there == 5 else "more")
    assert path.read_text() == "there"
    assert capsys.readouterr().out.endswith("summary.md: it is full. The exit code says what came out.\n")
    add_to_summary({}, lambda there: "more")
    assert capsys.readouterr().out == ""


def test_gitlab_is_told(accepted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code Quality and links in the folder of reports, and no workflow command; the flag wins over the setting."""
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("CI_PROJECT_DIR", str(accepted.path))
    monkeypatch.setenv("CI_JOB_URL", "https://gitlab.example/p/-/jobs/5")
    done = accepted.run("evalsuites", "--model", "runs/v3")
    assert done.ret == 1
    assert commands_in(done.stdout.str()) == []
    quality = json.loads((accepted.path / "reports/ci/gl-code-quality.json").read_text())
    assert [(each["severity"], each["location"]["path"]) for each in quality] == [
        ("critical", "evalsuites/test_arithmetic.py"),
        ("info", "evalsuites/test_arithmetic.py"),
    ]
    links = json.loads((accepted.path / "reports/ci/gl-annotations.json").read_text())
    url = "https://gitlab.example/p/-/jobs/5/artifacts/file/reports/v3/index.html"
    assert links["evalgate"][0]["external_link"]["url"] == url
    assert f"([look at it]({url}))" in (accepted.path / "reports/comment.md").read_text()
    accepted.configure(WRONG, 'ci = "none"')
    accepted.run("evalsuites", "--model", "runs/nix", "--eval-ci", "gitlab")
    (entry,) = json.loads((accepted.path / "reports/ci/gl-code-quality.json").read_text())
    assert entry["location"]["path"] == "evalsuites"
    assert "is no folder" in entry["description"]


def test_nobody_need_be_told(accepted: Project, job: Jobs) -> None:
    """`none` tells no CI, and still writes the comment."""
    step = job(accepted)
    accepted.configure(WRONG, 'ci = "none"')
    done = step.run("--model", "runs/v2")
    assert (commands_in(done.stdout.str()), step.summary.read_text(), step.outputs.read_text()) == ([], "", "")
    assert (accepted.path / "reports/comment.md").is_file()


def test_the_environment_chooses() -> None:
    """`auto` looks at what the runners say of themselves; anything else is taken as it is."""
    assert chosen("auto", {"GITHUB_ACTIONS": "true"}) == "github"
    assert chosen("auto", {"GITLAB_CI": "true"}) == "gitlab"
    assert chosen("auto", {"CI": "true", "GITHUB_ACTIONS": "false"}) == "none"
    assert chosen("none", {"GITHUB_ACTIONS": "true"}) == "none"


def test_a_look_at_the_tests_is_no_session(accepted: Project, job: Jobs) -> None:
    """Nothing is written, and no comment is removed."""
    step = job(accepted)
    (accepted.path / "reports").mkdir()
    (accepted.path / "reports/comment.md").write_text("of yesterday")
    done = step.run("--model", "runs/v3", "--collect-only", "-q")
    assert (commands_in(done.stdout.str()), step.summary.read_text(), step.outputs.read_text()) == ([], "", "")
    assert (accepted.path / "reports/comment.md").read_text() == "of yesterday"


def test_nightly_says_how_it_ended(accepted: Project, job: Jobs) -> None:
    """A night that starts no pytest is in the summary, too."""
    step = job(accepted)
    done = accepted.evalgate("nightly", "conf/none.yaml")
    assert done.returncode == 2
    assert "## 💥 evalgate nightly: it could not be done" in step.summary.read_text()
    assert "conf/none.yaml" in step.summary.read_text()


def test_a_command_adds_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As text, whatever stands in it; elsewhere than on GitHub, or where the settings say `none`, nothing is."""
    path = tmp_path / "summary.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    with told_of("evalgate nightly") as tell:
        tell("said to nobody")
    assert not path.exists()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with told_of("evalgate nightly") as tell:
        tell("nightly: runs/v7 passed; <b>champion</b> is v7")
    assert path.read_text() == "\nnightly: runs/v7 passed; &#60;b&#62;champion&#60;/b&#62; is v7\n"
    (tmp_path / "pyproject.toml").write_text('[tool.evalgate]\nci = "none"\n')
    with told_of("evalgate nightly") as tell:
        tell("said to nobody")
    assert "nobody" not in path.read_text()


# -- hostile texts ----------------------------------------------------------------------------------------------------

PAYLOADS = [*ANSI[:40], *LINKS[:40], *COMMANDS[:48], *MARKDOWN, *FORMULAS[:40]]


def hostile(project: Project) -> str:
    """A project whose ids, fields, targets, slices, task, answers and checkpoint say what the payloads say."""
    rows = [
        {
            "id": f"{i}{printable(text)}",
            "say": f"{text}{i}",
            "target": f"{text} good {i}",
            "kind": printable(PAYLOADS[i // 5]) if i < 200 else "x",
        }
        for i, text in enumerate(PAYLOADS)
    ]
    (project.path / "evalsuites/data/addition.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    suite = SUITE.replace("{{ a }}+{{ b }}=", "{{ say }}").replace("max_tokens=8", "max_tokens=99")
    task = "a task\n::error::pwned ##[error]pwned\x1b[31m"
    project.suite("test_arithmetic", suite.replace('slices=("digits",)', f'slices=("kind",), name={task!r}'))
    name = f"v3{COMMANDS[5]}{ANSI[0]}{MARKDOWN[6]}".replace("/", "")
    (project.path / project.checkpoint("v9")).rename(project.path / "runs" / name)
    answers = {"v1": {row["say"]: row["target"] for row in rows}, name: {row["say"]: row["say"] for row in rows}}
    tables = "".join(
        f"[tool.evalgate.engine.checkpoints.{quoted(who)}]\n"
        + "".join(f"{quoted(say)} = {quoted(answer)}\n" for say, answer in said.items())
        for who, said in answers.items()
    )
    (project.path / "pyproject.toml").write_text(f'[tool.evalgate.engine]\nname = "fake"\n{tables}')
    return name


def printable(text: str) -> str:
    """What ids and slices may hold: evalgate refuses the rest by itself."""
    return "".join(char for char in text if char.isprintable() and char not in "/\\")


def quoted(text: str) -> str:
    """A text in TOML."""
    return json.dumps(text).replace("\x7f", "\\u007f")


def test_hostile_texts_reach_no_log_and_no_file(project: Project, job: Jobs) -> None:
    """A model, its data and its folder say 200 things that somebody would obey: nobody is told to."""
    name = hostile(project)
    step = job(project)
    project.run("evalsuites", "--model", "runs/v1", "--eval-record-only", "-q")
    done = project.evalgate("accept", "runs/v1", "-m", "first")
    assert done.returncode == 0, done.stderr
    for model, args in ((name, ("-v", "--model", "runs/v1", "--junit-xml", "gate.xml")), ("##[error]pwned\x1b[2J", ())):
        ran = step.run("--model", f"runs/{model}", *args)
        assert ran.ret == (1 if args else 4)
        log = ran.stdout.str() + ran.stderr.str()
        assert "pwned" in log
        for command in commands_in(log):
            assert command.name in ("error", "warning", "notice"), command
            assert set(command.properties) <= {"file", "line", "title"}, command
            assert command.properties["title"].startswith(("evalgate", "REGRESSION")), command
        assert not invisible(log), args
        for text in (step.summary.read_text(), (project.path / "reports/comment.md").read_text()):
            assert "pwned" in text
            assert active_in(text, links=("https://github.com/o/r/actions/runs/17",)) == []
            assert not invisible(text)
            assert commands_in(text) == []
    junit = (project.path / "gate.xml").read_text()
    for element in ElementTree.fromstring(junit).iter():
        for value in (*element.attrib.values(), element.text or ""):
            assert not invisible(value)
            assert not commands_in(value)
