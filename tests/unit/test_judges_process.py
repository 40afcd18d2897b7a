"""The judges' child and its parent, with a library that does whatever a test wants."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalgate.checkpoint import Checkpoint
from evalgate.errors import ConfigError, JudgeError, MissingExtraError
from evalgate.instrument import Case, Instrument, Job, Judgement, JudgeModel
from evalgate.judges import process
from evalgate.judges.gateway import Gateway
from evalgate.judges.process import child_environment, judge_in_child
from evalgate.judges.versions import versions
from evalgate.judges.wire import checked, message
from evalgate.request import Completion, Request

MODEL = JudgeModel("mine", Checkpoint("j", None, "full", "sha256:w", "sha256:t", None, "A", 512), "e")
# Stands in for ragas before anything is imported: its metric does what its arguments say.
LIBRARY = """
import asyncio, os, sys, time, types

async def measure(spec, case, client, model):
    do, value = spec["metric"], spec.get("value")
    if do == "give":
        strange = {"nan": float("nan"), "inf": float("inf"), "none": None, "text": "0.5", "true": True}
        return strange.get(value, value), "because"
    if do == "raise":
        raise ValueError("first line\\nsecond line")
    if do == "pair":
        return 0.5
    if do == "sleep":
        await asyncio.sleep(value)
        return 0.5, None
    if do == "block":
        time.sleep(value)
        return 0.5, None
    if do == "timeout":
        raise TimeoutError("of the library")
    if do == "kill":
        await asyncio.sleep(0.3)
        os.kill(os.getpid(), value)
    if do == "exit":
        await asyncio.sleep(0.3)
        print("RuntimeError: gave up", file=sys.stderr, flush=True)
        os._exit(value)
    if do == "print":
        print("noise", sys.stdin.read(), flush=True)
        os.write(1, b"more noise")
        return 0.25, None
    if do == "look":
        return 1, repr((os.getpid(), os.getcwd(), os.listdir(), dict(os.environ)))
    if do == "ask":
        for word in case["answer"].split():
            reply = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": word}])
        return float(reply.choices[0].message.content), None
    raise NotImplementedError(do)

fake = types.ModuleType("evalgate.judges.ragas")
fake.measure = measure
sys.modules[fake.__name__] = fake
"""


@pytest.fixture
def library(tmp_path: Path) -> dict[str, str]:
    """An environment in which ragas is our stand-in."""
    place = tmp_path / "stand-in"
    place.mkdir()
    (place / "sitecustomize.py").write_text(LIBRARY, "utf-8")
    return {**os.environ, "PYTHONPATH": str(place), "OPENAI_API_KEY": "sk-secret", "HTTPS_PROXY": "http://proxy:1"}


def job(do: str, value: Any = None, *, sample: str = "", answer: str = "an answer", asks: bool = False) -> Job:
    """A job of the stand-in."""
    instrument = Instrument("ragas", {"metric": do, "value": value}, asks=asks)
    return Job(instrument, Case(sample or f"{do}-{value}", "why?", f"{answer}"), MODEL if asks else None)


def run(
    jobs: Sequence[Job], folder: Path, environ: dict[str, str] | None = None, **options: Any
) -> Iterator[Judgement]:
    """Judge without a model."""
    options = {"python": None, "folder": folder / "scratch", "log": folder / "logs" / "judges.log"} | options
    return judge_in_child(jobs, options.pop("endpoint", None), environ=environ, **options)


def test_only_numbers_in_range_are_values(tmp_path: Path, library: dict[str, str]) -> None:
    """Not a number, infinity, nothing, text, truth, beyond the range, an exception: each is one sample's error."""
    good = [job("give", 0), job("give", 0.25), job("give", 1)]
    bad = [job("give", value) for value in ("nan", "inf", "none", "text", "true", 1.01, -0.5)]
    bad += [job("raise"), job("pair"), job("timeout"), job("nonsense")]
    events: list[str] = []
    found = {result.job: result for result in run([*good, *bad], tmp_path, library, on_event=events.append)}
    assert [found[one.id] for one in good] == [
        Judgement(one.id, one.instrument.settings["value"], "because") for one in good
    ]
    for one in bad:
        result = found[one.id]
        assert (result.value, result.explanation) == (None, None)
        assert result.error is not None
        assert result.error.startswith(f"sample {one.case.sample}: ragas ")
        assert "\n" not in result.error
    said = {one.case.sample: str(found[one.id].error) for one in bad}
    assert "gave nan, expected a number from 0 to 1" in said["give-nan"]
    assert "gave no value" in said["give-none"]
    assert "gave a str" in said["give-text"]
    assert "gave 1.01, expected" in said["give-1.01"]
    assert "ValueError: first line (after 0." in said["raise-None"]
    assert "second line" not in said["raise-None"]
    assert "TimeoutError: of the library" in said["timeout-None"]
    assert events == ["starting ragas: 14 judgements"]


def test_a_job_has_one_deadline(tmp_path: Path, library: dict[str, str]) -> None:
    """What takes too long is an error that says so; the others are judged meanwhile."""
    slow, quick = job("sleep", 60, sample="slow"), job("sleep", 0)
    began = time.monotonic()
    found = {result.job: result for result in run([slow, quick], tmp_path, library, seconds=0.5)}
    assert time.monotonic() - began < 20
    assert found[quick.id].value == 0.5
    assert str(found[slow.id].error).startswith("sample slow: ragas sleep: no judgement within 0.5 s (after 0.")


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (job("kill", signal.SIGKILL), "was killed by signal 9 (SIGKILL), perhaps for want of memory"),
        (job("exit", 3), "ended with status 3 after 1 of 2 judgements: RuntimeError: gave up"),
    ],
)
def test_a_child_that_dies_is_an_error_of_all(tmp_path: Path, library: dict[str, str], end: Job, said: str) -> None:
    """What was judged before stays; the rest is one error that says how it ended and where the log lies."""
    found: list[Judgement] = []
    with pytest.raises(JudgeError) as raised:
        found.extend(run([job("give", 0.5), end], tmp_path, library))  # what came before the error counts
    assert [result.value for result in found] == [0.5]
    assert said in str(raised.value)
    assert str(tmp_path / "logs" / "judges.log") in str(raised.value)


def test_a_child_that_falls_silent_is_ended(
    tmp_path: Path, library: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that blocks its process, where no deadline helps, is an error of all and its process is gone."""
    monkeypatch.setattr(process, "START_SECONDS", 1.0)
    look, block = job("look"), job("block", 600)
    found: list[Judgement] = []
    with pytest.raises(JudgeError, match=r"said nothing for 1\.2 s"):
        found.extend(run([look, block], tmp_path, library, seconds=0.2))  # what came before the error counts
    assert not alive(pid_of(found[0]))


def test_whoever_stops_listening_ends_the_child(tmp_path: Path, library: dict[str, str]) -> None:
    """A session that is interrupted leaves no process behind."""
    results = run([job("look"), job("sleep", 600)], tmp_path, library)
    pid = pid_of(next(results))
    assert alive(pid)
    results.close()  # type: ignore[attr-defined]  # a generator: what a for loop does when it is left
    assert not alive(pid)


def test_a_parent_that_is_killed_leaves_no_child(tmp_path: Path, library: dict[str, str]) -> None:
    """The kernel ends the child with the process that started it."""
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from tests.unit.test_judges_process import job, pid_of, run
for result in run([job("look"), job("sleep", 600)], Path({str(tmp_path)!r}), {library!r}):
    print(pid_of(result), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def test_the_child_sees_little_and_writes_in_its_folder(tmp_path: Path, library: dict[str, str]) -> None:
    """No keys, no proxies; home, caches and the working folder are below the scratch folder; telemetry is off."""
    (result,) = run([job("look")], tmp_path, library)
    _, folder, there, environ = eval(str(result.explanation))
    scratch = tmp_path / "scratch"
    assert (folder, there) == (str(scratch / "cwd"), [])
    assert not {"OPENAI_API_KEY", "HTTPS_PROXY"} & set(environ)
    for name in process.FOLDERS:
        assert Path(environ[name]).is_relative_to(scratch), name
    assert process.ALWAYS.items() <= environ.items()
    named = {*process.NAMES, *process.ALWAYS, *process.FOLDERS, "LC_CTYPE"}
    assert {name for name in environ if not name.startswith("LC_")} <= named


def test_another_interpreter_gets_none_of_our_libraries(tmp_path: Path) -> None:
    """PYTHONPATH names this environment's libraries."""
    assert "PYTHONPATH" not in child_environment("/opt/judges/bin/python", tmp_path, {"PYTHONPATH": "/ours"})
    assert child_environment(None, tmp_path, {"PYTHONPATH": "/ours"})["PYTHONPATH"] == "/ours"


def test_what_libraries_print_goes_to_the_log(tmp_path: Path, library: dict[str, str]) -> None:
    """Output does not disturb the protocol, and input is empty."""
    (result,) = run([job("print")], tmp_path, library)
    assert result.value == 0.25
    assert (tmp_path / "logs" / "judges.log").read_text("utf-8") == "noise \nmore noise"


def test_the_same_job_is_judged_once_and_no_job_starts_nothing(tmp_path: Path, library: dict[str, str]) -> None:
    """Equal jobs have one judgement; without jobs there is no child."""
    assert len(list(run([job("give", 0.5), job("give", 0.5)], tmp_path, library))) == 1
    assert list(run([], tmp_path / "none", library)) == []
    assert not (tmp_path / "none").exists()


def test_questions_go_through_the_gateway_and_are_counted(tmp_path: Path, library: dict[str, str]) -> None:
    """The one client asks without retries; where the model's side fails, its words and the count are in the error."""

    def ask(requests: Sequence[Request]) -> Iterator[Completion]:
        for request in requests:
            if request.prompt == "bad":
                yield Completion(request.id, error="the endpoint said 429 (4 attempts, 2.0 s)")
            else:
                yield Completion(request.id, text=request.prompt)

    good, bad = job("ask", answer="1 0.5", asks=True), job("ask", answer="1 bad 1", asks=True, sample="b")
    prose = job("ask", answer="well", asks=True)
    with Gateway({"mine": MODEL}, ask, lambda model, messages: messages[0]["content"]) as endpoint:
        found = {one.job: one for one in run([good, bad, prose], tmp_path, library, endpoint=endpoint)}
    assert found[good.id].value == 0.5
    said = str(found[bad.id].error)
    assert said.startswith("sample b: ragas ask: the endpoint said 429 (4 attempts, 2.0 s) (after ")
    assert said.endswith(" s, 2 questions to the model)")
    assert "could not convert string to float" in str(found[prose.id].error)


def test_a_gateway_that_is_gone_is_asked_once(tmp_path: Path, library: dict[str, str]) -> None:
    """The client does not try again by itself: a connection that fails is an error with its name and one question."""
    with Gateway({"mine": MODEL}, lambda requests: iter(()), lambda model, messages: "") as gone:
        pass
    (result,) = run([job("ask", answer="1", asks=True)], tmp_path, library, endpoint=gone)
    assert "ragas ask: APIConnectionError: Connection error." in str(result.error)
    assert str(result.error).endswith(", 1 question to the model)")


def test_a_missing_library_is_said(tmp_path: Path) -> None:
    """A child that cannot import its library says which one, not a traceback."""
    absent = Job(Instrument("uptrain", {"metric": "x"}), Case("s", "q", "a"))
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    (tmp_path / "sitecustomize.py").write_text(
        "import sys; sys.modules['openai'] = sys.modules['polars'] = None", "utf-8"
    )
    with pytest.raises(JudgeError, match=r"the judges' process failed: \w+ is not installed beside the judges"):
        list(run([absent], tmp_path, environ))


def stand_in(tmp_path: Path, lines: str, code: int = 0) -> str:
    """An interpreter that answers whatever it is asked with these lines."""
    path = tmp_path / "python"
    (tmp_path / "lines").write_text(lines, "utf-8")
    path.write_text(f"#!/bin/sh\ncat >/dev/null\ncat {tmp_path}/lines\nexit {code}\n", "utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("value", ["NaN", "1e999", "7", "-1", '"0.5"', "true", "null", "[0.5]", "{}"])
def test_the_parent_trusts_no_value(tmp_path: Path, value: str) -> None:
    """Whatever a child of another interpreter calls a value is looked at here again."""
    one = job("give", 0.5, sample="s7")
    line = f'{{"judgement": {{"job": "{one.id}", "value": {value}, "explanation": null, "error": null}}}}\n'
    (result,) = run([one], tmp_path, python=stand_in(tmp_path, line))
    assert result.value is None
    assert str(result.error).startswith("sample s7: ragas give gave ")


def test_the_parent_takes_what_is_right(tmp_path: Path) -> None:
    """The same line with a number in range is a judgement: the other cases do not fail for another reason."""
    one = job("give", 0.5)
    line = f'{{"judgement": {{"job": "{one.id}", "value": 1, "explanation": "why", "error": null}}}}\n'
    assert list(run([one], tmp_path, python=stand_in(tmp_path, line))) == [Judgement(one.id, 1.0, "why")]


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "{}",
        "[]",
        '{"judgement": {}}',
        '{"judgement": {"job": "sha256:other", "value": 1}}',
        "\xff",
        '{"a": 1, "b": 2}',
    ],
)
def test_what_is_no_judgement_ends_it(tmp_path: Path, line: str) -> None:
    """A child that speaks otherwise than agreed is not guessed at."""
    with pytest.raises(JudgeError, match=r"wrote what is no judgement|process failed"):
        list(run([job("give", 0.5)], tmp_path, python=stand_in(tmp_path, f"{line}\n")))


def test_a_job_without_an_answer_is_an_error(tmp_path: Path) -> None:
    """A child that ends well without having judged everything leaves no job without a judgement."""
    (result,) = run([job("give", 0.5, sample="s1")], tmp_path, python=stand_in(tmp_path, ""))
    assert str(result.error).startswith("sample s1: ragas give gave no judgement")
    with pytest.raises(JudgeError, match=r"ended with status 3 after 0 of 1"):
        list(run([job("give", 0.5)], tmp_path, python=stand_in(tmp_path, "", code=3)))


def test_what_is_no_interpreter_is_named(tmp_path: Path) -> None:
    """The message says which setting to look at."""
    with pytest.raises(JudgeError, match=r"/nowhere/python: .*could not be started.*judges\.python"):
        list(run([job("give", 0.5)], tmp_path, python="/nowhere/python"))


def test_numbers_are_numbers() -> None:
    """The one check that both sides use, at its edges."""
    assert [checked(value, 0, 1) for value in (0, 1, 0.5)] == [0.0, 1.0, 0.5]
    for value in (float("nan"), 1.0000001, True, None, "1", 1 + 0j):
        with pytest.raises(ValueError, match=r"^gave "):
            checked(value, 0, 1)
    with pytest.raises(ValueError):
        message(json.dumps({"a": 1, "b": 2}))


def test_versions_are_known_without_importing(tmp_path: Path) -> None:
    """The versions here and in another interpreter; none for kinds without a library; what is missing is named."""
    import importlib.metadata

    found = versions("deepeval", None)
    assert found["deepeval"] == importlib.metadata.version("deepeval")
    assert versions("deepeval", sys.executable) == found
    assert versions("native", None) == {}
    assert versions("promptfoo", None) == {}
    assert (
        versions("deepeval", stand_in(tmp_path, '{"deepeval": "9", "openai": "8", "pydantic": "7"}'))["deepeval"] == "9"
    )


def test_missing_versions_name_the_extra(tmp_path: Path) -> None:
    """An interpreter without the library is told what to install; what is no interpreter is told apart from it."""
    with pytest.raises(MissingExtraError, match=r"deepeval is not installed.*pytest-evalgate\[judges\]"):
        versions("deepeval", stand_in(tmp_path, "{}"))
    with pytest.raises(MissingExtraError, match=r"pytest-evalgate\[uptrain\]"):
        versions("uptrain", str(tmp_path / "python"))
    with pytest.raises(ConfigError, match=r"judges\.python"):
        versions("ragas", "/nowhere/python")
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match=r"judges\.python"):
        versions("ragas", stand_in(tmp_path / "other", "nonsense"))


@pytest.mark.parametrize(("version", "old"), [("3.9.9", True), ("4.3.0", True), ("4.3.1", False), ("10.0rc1", False)])
def test_a_library_too_old_to_mean_the_same_is_refused(tmp_path: Path, version: str, old: bool) -> None:
    """Earlier releases of deepeval scored violations, where a higher score was worse."""
    python = stand_in(tmp_path, json.dumps({"deepeval": version, "openai": "2.0", "pydantic": "2.0"}))
    if old:
        with pytest.raises(ConfigError, match=rf"deepeval {version} is too old.*4\.3\.1 or later"):
            versions("deepeval", python)
    else:
        assert versions("deepeval", python)["deepeval"] == version


def pid_of(result: Judgement) -> int:
    """Of the child, as it said itself."""
    return int(eval(str(result.explanation))[0])


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
