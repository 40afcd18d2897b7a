"""What a suite may declare, and what is refused at once."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from evalgate.errors import TaskError
from evalgate.gate import Gate
from evalgate.scoring import exact_match, includes
from evalgate.task import JsonLines, Sampling, Task, jsonl


def task(**changes: Any) -> Task:
    declared: dict[str, Any] = {"samples": [{"id": "a", "target": "x"}], "prompt": "Q", "scorers": [exact_match()]}
    return Task(**(declared | changes))


def test_jsonl_is_relative_to_the_module_that_calls(tmp_path: Path) -> None:
    """A path in a suite is read from the suite's own folder, wherever the command runs."""
    suite = tmp_path / "suites" / "test_sums.py"
    suite.parent.mkdir()
    suite.write_text("from evalgate.task import jsonl\ndata = jsonl('data/sums.jsonl', digest='sha256:0')\n")
    assert runpy.run_path(str(suite))["data"] == JsonLines(suite.parent / "data" / "sums.jsonl", "sha256:0")


def test_jsonl_keeps_an_absolute_path(tmp_path: Path) -> None:
    """An absolute path stays what it is."""
    assert jsonl(tmp_path / "sums.jsonl").path == tmp_path / "sums.jsonl"


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": "8"},
        {"max_tokens": 8.0},
        {"max_tokens": True},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": "hot"},
        {"top_p": 0},
        {"top_p": 1.01},
        {"top_k": -1},
        {"seed": 1.5},
        {"n": 0},
        {"n": 4},
        {"stop": "\n"},
    ],
)
def test_sampling_that_cannot_mean_anything_is_refused(wrong: dict[str, Any]) -> None:
    """A value out of range or of another type is an error that names the setting."""
    with pytest.raises(TaskError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_sampling_takes_its_limits() -> None:
    """The ends of every range are allowed, and a list of stops becomes a tuple."""
    sampling = Sampling(max_tokens=1, temperature=0.7, top_p=1, top_k=0, n=4, stop=["\n", "."])
    assert sampling.stop == ("\n", ".")


def test_sampling_identity_leaves_out_the_seed_alone() -> None:
    """Another seed is comparable; every other field is identity."""
    assert Sampling(seed=1).identity == Sampling(seed=2).identity
    changed = [
        Sampling(max_tokens=1),
        Sampling(temperature=1),
        Sampling(top_p=0.5),
        Sampling(top_k=5),
        Sampling(stop=("x",)),
        Sampling(temperature=1, n=2),
        Sampling(json_schema={"type": "object"}),
    ]
    assert len({str(sampling.identity) for sampling in [Sampling(), *changed]}) == 1 + len(changed)


def test_sampling_identity_does_not_depend_on_how_a_number_is_written() -> None:
    """Temperature 1 and 1.0 are one identity, as JSON."""
    assert str(Sampling(temperature=1).identity) == str(Sampling(temperature=1.0).identity)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"scorers": []}, "no scorers"),
        ({"scorers": exact_match()}, "list of scorers"),
        ({"scorers": [exact_match]}, "list of scorers"),
        ({"scorers": [exact_match(), exact_match(ignore_case=True)]}, "share a name"),
        ({"slices": "digits"}, "slices is the text 'digits'"),
        ({"golden": "a"}, "golden is the text 'a'"),
        ({"golden": ["a"], "sampling": Sampling(temperature=1)}, "greedy"),
        ({"samples": "data/sums.jsonl"}, r'samples=jsonl\("data/sums.jsonl"\)'),
        ({"samples": Path("sums.jsonl")}, "jsonl"),
        ({"reasoning": ("<think>",)}, "start and an end marker"),
        ({"reasoning": ("<think>", "")}, "start and an end marker"),
        ({"reserve": "data/more.jsonl"}, r'reserve is the path .* reserve=jsonl\("data/more.jsonl"\)'),
        ({"labels": Path("labels.jsonl")}, r'labels is the path .* labels=jsonl\("labels.jsonl"\)'),
        ({"blocking_slices": "digits", "slices": ["digits"]}, "blocking_slices is the text 'digits'"),
        ({"blocking_slices": ["digits"]}, "blocking_slices names digits, which is no slice; there are none"),
        (
            {"blocking_slices": ["digits", "kind", "age"], "slices": ["kind", "place"]},
            r"names digits, age, which is no slice; there are kind, place. Name it in slices=… too",
        ),
    ],
)
def test_task_that_cannot_mean_anything_is_refused(wrong: dict[str, Any], says: str) -> None:
    """A declaration that would fail later, or silently mean something else, fails where it stands."""
    with pytest.raises(TaskError, match=says):
        task(**wrong)


def test_first_scorer_blocks_unless_some_carry_a_gate() -> None:
    """Without gates the first blocks; with gates those do, and the others inform."""
    plain = task(scorers=[exact_match(), includes()])
    assert [scorer.name for scorer in plain.blocking] == ["exact_match"]
    gated = task(scorers=[exact_match(), includes(gate=Gate(margin=0.1))])
    assert [scorer.name for scorer in gated.blocking] == ["includes"]


def test_rows_are_taken_once() -> None:
    """A generator of rows is kept as a tuple, so that a task can be read twice."""
    declared = task(samples=({"id": name} for name in "ab"))
    assert declared.samples == ({"id": "a"}, {"id": "b"})


def test_reserve_and_labels_are_taken_as_the_samples_are() -> None:
    """Once, or from a file; without them there are none, which is not the same as an empty reserve."""
    declared = task(reserve=({"id": name} for name in "ab"), labels=iter([{"id": "a", "output": "x"}]))
    assert declared.reserve == ({"id": "a"}, {"id": "b"})
    assert declared.labels == ({"id": "a", "output": "x"},)
    assert (task().reserve, task().labels, task(reserve=[]).reserve) == (None, None, ())
    assert task(reserve=jsonl("more.jsonl")).reserve == jsonl("more.jsonl")


def test_blocking_slices_are_some_of_the_slices() -> None:
    """In the order given; the others warn."""
    declared = task(slices=["kind", "digits", "place"], blocking_slices=["place", "kind"])
    assert declared.blocking_slices == ("place", "kind")
    assert task(slices=["kind"]).blocking_slices == ()


def test_what_was_asked_is_the_sampling_and_how_reasoning_is_cut_out() -> None:
    """Records made before there were markers say nothing of them, and stay comparable with tasks that have none."""
    assert task().asked == Sampling().identity
    marked = task(reasoning=("<think>", "</think>"))
    assert marked.asked == Sampling().identity | {"reasoning": ["<think>", "</think>"]}
    assert task(sampling=Sampling(seed=5)).asked == task().asked
    assert task(reserve=[{"id": "r"}], slices=["kind"], blocking_slices=["kind"]).asked == task().asked


def test_task_knows_a_chat_from_a_text() -> None:
    """Messages go through the chat template, a text does not."""
    assert task(prompt=[{"role": "user", "content": "Q"}]).is_chat
    assert not task(prompt="Q").is_chat


def test_prompt_digest_covers_what_shapes_the_prompt() -> None:
    """Prompt, template arguments and reasoning markers are in it; name, slices and gates are not."""
    changed = [
        task(),
        task(prompt="Q "),
        task(prompt=[{"role": "user", "content": "Q"}]),
        task(template_kwargs={"enable_thinking": False}),
        task(reasoning=("<think>", "</think>")),
    ]
    assert len({declared.prompt_digest for declared in changed}) == len(changed)
    same = task(name="other", slices=("digits",), scorers=[exact_match(gate=Gate(margin=0.1))])
    assert same.prompt_digest == task().prompt_digest
