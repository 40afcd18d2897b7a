"""A user's function as a scorer: what it is given, and what its identity covers."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evalgate.errors import TaskError
from evalgate.request import Completion
from evalgate.scoring import Scorer, apply, code_digest, function
from evalgate.task import Sample

WORDS = frozenset({"sorry", "cannot", "unable", "unfortunately"})


def refuses(output: str, sample: Sample) -> bool:
    assert isinstance(output, str)  # pytest rewrites this line, and the identity must not care
    return any(word in output for word in WORDS)


def value(scorer: Scorer, text: str) -> float:
    return apply(scorer, Completion("r", text), Sample("s-1", {})).value


def test_function_scores_the_text() -> None:
    """The function gets the answer's text and the sample; a bool annotation makes the metric binary."""
    scorer = function(refuses)
    assert (scorer.name, scorer.binary) == ("refuses", True)
    assert value(scorer, "sorry, no") == 1
    assert value(scorer, "yes") == 0
    length = function(lambda output, sample: len(output), "length", high=None, higher_is_better=False)
    assert value(length, "four") == 4
    assert not length.binary
    assert function(refuses, binary=False).binary is False


def test_function_identity_is_the_same_in_every_process() -> None:
    """Neither the hash seed, nor pytest's rewriting of asserts, nor the module's name changes a digest."""
    code = (
        "import runpy, sys; from evalgate.scoring import code_digest;"
        "print(code_digest(runpy.run_path(sys.argv[1])['refuses']))"
    )
    for seed in ("0", "1"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        printed = subprocess.check_output([sys.executable, "-c", code, __file__], env=environment, text=True)
        assert printed.strip() == code_digest(refuses)


Load = Callable[..., ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Write a module and import it, each time under another name and path; keywords are modules that it can import."""
    numbers = itertools.count()

    def module(source: str, **helpers: str) -> ModuleType:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        for name, text in (helpers | {f"suite{folder.name}": source}).items():
            (folder / f"{name}.py").write_text(text)
            spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            loaded = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(sys.modules, name, loaded)
            spec.loader.exec_module(loaded)
        return loaded

    return module


SUITE = """
import re, functools, contextlib, enum, dataclasses
import helpers
from helpers import fold

LIMIT = 3
TABLE = {"a": [1, (2.5, None)], "b": {"x", "y"}}
PATTERN = re.compile("sorry", re.I)
UNUSED = 1

def unused():
    return 1

SIZE = 71

def shorten(text, n=SIZE):
    return text[:n]

@functools.cache
def weight(text):
    return SECRET + len(text)

SECRET = 5

@contextlib.contextmanager
def opened():
    yield 11

class Level(enum.Enum):
    LOW = 1

@dataclasses.dataclass
class Rule:
    bonus: int
    def apply(self, text):
        return self.bonus + LEVELS[Level.LOW]

LEVELS = {Level.LOW: 21}
RULE = Rule(31)

def make(k):
    def f(output, sample, *, scale=41):
        inner = [shorten(x) for x in fold(output)]
        with opened() as o:
            return len(inner) + LIMIT + k + weight(output) + len(TABLE) + bool(PATTERN.search(output)) \\
                + RULE.apply(output) + helpers.size(output) + mutual(output, 2)
    return f

def mutual(text, depth):
    return mutual(text, depth - 1) if depth else made is None

made = None
f = make(51)
"""
HELPERS = """
import string
BASE = 61
def fold(text):
    return text.split()
def size(text):
    return BASE
def other():
    return 1
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("(2.5, None)", "(2.5, True)"),
        ('{"x", "y"}', '{"x", "z"}'),
        ("re.I)", "re.S)"),
        ("SIZE = 71", "SIZE = 72"),
        ("text[:n]", "text[1:n]"),
        ("SECRET = 5", "SECRET = 6"),
        ("yield 11", "yield 12"),
        ("LOW = 1", "LOW = 2"),
        (": 21}", ": 22}"),
        ("Rule(31)", "Rule(32)"),
        ("self.bonus +", "self.bonus -"),
        ("scale=41", "scale=42"),
        ("make(51)", "make(52)"),
        ("depth - 1", "depth - 2"),
        ("BASE = 61", "BASE = 62"),
        ("text.split()", "text.split(',')"),
    ],
)
def test_function_identity_covers_what_it_names(load: Load, old: str, new: str) -> None:
    """A changed helper, constant, closure, default, class or cached function, in this module or another, is noticed."""
    before = code_digest(load(SUITE, helpers=HELPERS).f)
    assert old in SUITE + HELPERS
    assert code_digest(load(SUITE.replace(old, new), helpers=HELPERS.replace(old, new)).f) != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("UNUSED = 1", "UNUSED = 2"),
        ("def unused():\n    return 1", "def unused():\n    return 2"),
        ("\nLIMIT", "# a note\n\nLIMIT"),
        ("def other():\n    return 1", ""),
    ],
)
def test_function_identity_leaves_out_what_it_does_not_name(load: Load, old: str, new: str) -> None:
    """Neighbours, the module's name and the place of the file change nothing."""
    before = code_digest(load(SUITE, helpers=HELPERS).f)
    assert old in SUITE + HELPERS
    assert code_digest(load(SUITE.replace(old, new), helpers=HELPERS.replace(old, new)).f) == before


def test_lambda_is_its_own_text_only(load: Load) -> None:
    """Two lambdas on a line differ, and a gate or a neighbour on the line is no part of either."""
    pair = load("a, b = (lambda o, s: o == 'a'), (lambda o, s: [o, (lambda: o)()] == 'b')")
    first, second = code_digest(pair.a), code_digest(pair.b)
    assert first != second
    again = load("x = {'gate': .02, 'f': [lambda o, s: o == 'a', lambda o, s: o == 'c']}")
    assert code_digest(again.x["f"][0]) == first
    assert code_digest(again.x["f"][1]) not in (first, second)
    spread = load("f = dict(\n  g=(lambda o, s:\n      o == 'a'), h=1)['g']")
    assert code_digest(spread.f) != first  # white space inside of it is part of its text


def test_lambdas_that_cannot_be_told_apart_share_their_line(tmp_path: Path) -> None:
    """Without column positions in the byte code, all lambdas of a line are identity: no change can go unnoticed."""
    code = (
        "import runpy, sys; from evalgate.scoring import code_digest;"
        "print(*map(code_digest, runpy.run_path(sys.argv[1])['pair']))"
    )
    printed = []
    for last in ("'b'", "'c'"):
        (tmp_path / "suite.py").write_text(f"pair = (lambda o, s: o == 'a'), (lambda o, s: o == {last})\n")
        command = [sys.executable, "-X", "no_debug_ranges", "-c", code, str(tmp_path / "suite.py")]
        printed += subprocess.check_output(command, text=True).split()
    assert printed[0] == printed[1] != printed[2] == printed[3]


def test_methods_partials_scorers_and_cached_properties_have_an_identity(load: Load) -> None:
    """An object is its class and its state, without what a cached property happened to keep; a scorer is its metric."""
    source = """
import functools, threading
from evalgate import Gate, exact_match, function

class Judge:
    def __init__(self, bar):
        self.bar = bar
    @functools.cached_property
    def double(self):
        return 2 * self.bar
    def rate(self, output, sample):
        return len(output) > self.double
    __call__ = rate

def above(bar, output, sample):
    return inner.score(output, sample)

inner = exact_match(gate=Gate(margin=0.1))
judge = Judge(3)
part = functools.partial(above, 3)
"""
    suite, other = load(source), load(source.replace("3)", "4)"))
    rate = code_digest(suite.judge.rate)
    assert suite.judge.double == 6
    assert code_digest(suite.judge.rate) == rate != code_digest(other.judge.rate)
    assert code_digest(suite.judge) != code_digest(other.judge)
    assert code_digest(suite.part) != code_digest(other.part)
    assert code_digest(suite.part) == code_digest(load(source.replace("gate=Gate(margin=0.1)", "")).part)
    assert code_digest(suite.part) != code_digest(load(source.replace("gate=Gate(margin=0.1)", "True")).part)


def test_what_libraries_bring_is_known_by_name(load: Load) -> None:
    """Built-in functions, library functions and loggers have a name; another name is another identity."""
    source = (
        "import logging, math, textwrap\nlog = logging.getLogger('a')\nmeasure = len\nfold = textwrap.dedent\n"
        "def f(o, s):\n    log.info(o)\n    return measure(fold(o)) + math.sqrt(4)\n"
    )
    before = code_digest(load(source).f)
    assert code_digest(load(source).f) == before
    for old, new in (("= len", "= sum"), ("'a'", "'b'"), ("textwrap.dedent", "textwrap.fill")):
        assert code_digest(load(source.replace(old, new)).f) != before


def test_name_that_is_not_bound_yet_is_nothing(load: Load) -> None:
    """A closure over a variable that has no value yet still has an identity, another than with one."""
    source = (
        "def make():\n    def f(o, s):\n        return later\n    if {}:\n        later = 1\n    return f\nf = make()"
    )
    assert code_digest(load(source.format(0)).f) != code_digest(load(source.format(1)).f)


def test_function_that_refers_to_its_own_scorer_has_an_identity(load: Load) -> None:
    """Cycles through scorers, containers and functions end."""
    suite = load(
        "from evalgate import function\nloop = []\nloop.append(loop)\n"
        "def f(o, s):\n    return mine is None or loop\nmine = function(f)\n"
    )
    assert suite.mine.metric.digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import threading\nlock = threading.Lock()\ndef f(o, s):\n    return lock", "names a _thread.lock"),
        ("words = list(range(30_000))\ndef f(o, s):\n    return o in words", "more than 20000 values"),
        ("exec('def f(o, s): return 1')", "source cannot be read"),
        ("exec('def g(o): return 1')\ndef f(o, s):\n    return g(o)", "source cannot be read"),
    ],
)
def test_what_has_no_identity_is_refused(load: Load, source: str, says: str) -> None:
    """A value without content, too many values, or code that stands in no file is an error that says what to do."""
    suite = load(source)
    with pytest.raises(TaskError, match=f"function f: .*{says}"):
        _ = function(suite.f).metric


def test_source_that_changed_since_it_was_loaded_is_refused(load: Load) -> None:
    """An identity is never taken from text that is not the code's own."""
    suite = load("def f(o, s):\n    return 1\n")
    Path(str(suite.__file__)).write_text("# moved\n\n\ndef f(o, s):\n    return 2\n")
    with pytest.raises(TaskError, match="has changed since it was loaded"):
        code_digest(suite.f)


@pytest.mark.parametrize(
    ("f", "says"),
    [
        (lambda output: 1, "name"),
        (len, "called as f"),
        (refuses.__code__.replace, "called as f"),
    ],
)
def test_callable_that_is_no_scorer_is_refused(f: Any, says: str) -> None:
    """A lambda without a name, or what cannot take an output and a sample, is refused where it is declared."""
    with pytest.raises(TaskError, match=says):
        function(f)


def test_coroutine_is_refused() -> None:
    """A scorer is called, not awaited."""

    async def later(output: str, sample: Sample) -> bool:
        return True

    with pytest.raises(TaskError, match="coroutine"):
        function(later)  # type: ignore[arg-type]
