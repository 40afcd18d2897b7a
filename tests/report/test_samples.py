"""How a card's samples are packed: nothing readable in the page, cut where there is no room, the same bytes again."""

from __future__ import annotations

import base64
import gzip
import json
import random
import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from evalgate.digest import digest
from evalgate.evaluation import Evaluation, Metric
from evalgate.report import CardData, render_card, samples
from evalgate.report.samples import packed, payload
from evalgate.report.tables import samples_jsonl

TASK = "sums/all"


def pack(data: CardData) -> str:
    """The samples as they stand in the page."""
    return packed(data.name, data.family, data.candidates, data.baselines, data.near_ties)


def unpack(text: str) -> Any:
    """What the card's script reads."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def saying(data: CardData, say: Callable[[int, str], Mapping[str, Any]]) -> CardData:
    """The card with other fields in every row, by its number and its side."""
    now, was = (
        replace(side[TASK], rows=tuple(replace(row, **say(i, who)) for i, row in enumerate(side[TASK].rows)))
        for side, who in ((data.candidates, "now"), (data.baselines, "was"))
    )
    return replace(data, candidates={TASK: now}, baselines={TASK: was})


def noise(rng: random.Random, n: int) -> str:
    """Printable characters that do not compress."""
    return "".join(rng.choices(string.printable[:94], k=n))


def test_no_text_of_a_sample_stands_in_the_page(sums_card: Callable[[int], CardData]) -> None:
    """What models wrote is packed in base64, which holds no character that HTML reads; it comes out whole."""
    data = saying(
        sums_card(40), lambda i, who: {"outputs": (f"</script><b>{who} {i} \u2028",), "prompt": "<!-- wanted"}
    )
    html, text = render_card(data), pack(data)
    assert set(text) <= {*string.ascii_letters, *string.digits, *"+/="}
    assert text in html
    assert "wanted" not in html
    found = unpack(text)
    assert {s["o"][0] for s in found["samples"]} == {f"</script><b>now {i} \u2028" for i in range(40)}
    assert found == json.loads(json.dumps(without_lines(payload_of(data))))


def payload_of(data: CardData) -> dict[str, Any]:
    """Before anything is cut."""
    return payload(data.name, data.family, data.candidates, data.baselines, data.near_ties)


def without_lines(told: dict[str, Any]) -> dict[str, Any]:
    """As it is packed where nothing is cut."""
    return {**told, "samples": [{k: v for k, v in s.items() if k != "l"} for s in told["samples"]]}


def test_the_same_samples_are_packed_into_the_same_bytes(demo: CardData) -> None:
    """Neither a time nor a name is in the packed bytes, and another text makes others."""
    raw = base64.b64decode(pack(demo))
    assert raw == base64.b64decode(pack(demo))
    assert raw[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"  # gzip, no file name, no time
    assert pack(replace(demo, name="v4")) != pack(demo)


def test_long_texts_are_cut_and_say_where_they_are_whole(demo: CardData, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut text stands with its length; its sample names its line in the file beside the card, others name none."""
    monkeypatch.setattr(samples, "TEXT_LIMIT", 15)
    lines = [json.loads(line) for line in samples_jsonl(demo)]
    found = unpack(pack(demo))
    cut = [s for s in found["samples"] if "l" in s]
    assert 0 < len(cut) < len(found["samples"])
    for sample in cut:
        whole = lines[sample["l"] - 1]
        assert (whole["id"], whole["task"]) == (sample["i"], found["tasks"][sample["a"]]["id"])
        for key, text in (("p", whole["prompt"]), *zip(("o0", "o1"), whole["candidate"]["outputs"], strict=False)):
            value = sample.get("p", "") if key == "p" else sample["o"][int(key[1])]
            assert value == (text if len(text) <= 15 else [text[:15], len(text)])
    assert all(isinstance(s.get("p", ""), str) for s in found["samples"] if "l" not in s)


def test_sides_that_differ_only_beyond_the_cut_are_different(sums_card: Callable[[int], CardData]) -> None:
    """Whether both sides said the same is seen in the whole texts; reasons that only one side has stay its own."""
    long = "x" * (samples.TEXT_LIMIT + 5)
    data = saying(sums_card(3), lambda i, who: {"outputs": (long + (who if i == 0 else ""),), "notes": NOTES[who][i]})
    found = {s["i"]: s for s in unpack(pack(data))["samples"]}
    assert found["sums-0000"]["o"] == found["sums-0000"]["w"] == [[long[:-5], len(long) + 3]]
    assert "w" not in found["sums-0001"]
    assert (found["sums-0000"]["x"], found["sums-0000"]["v"]) == ({"exact_match": "why"}, {})
    assert "v" not in found["sums-0001"]
    assert ("x" in found["sums-0002"], found["sums-0002"]["v"]) == (False, {"exact_match": "why"})


NOTES: dict[str, list[dict[str, str]]] = {
    "now": [{"exact_match": "why"}, {"exact_match": "same"}, {}],
    "was": [{}, {"exact_match": "same"}, {"exact_match": "why"}],
}


def test_where_there_is_no_room_the_most_telling_samples_stay_whole(
    sums_card: Callable[[int], CardData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What regressed keeps its texts, what is unchanged keeps their beginnings, and the page keeps to its size."""
    rng = random.Random(3)
    data = saying(sums_card(400), lambda i, who: {"outputs": (noise(rng, 2000),)})
    size = len(base64.b64decode(pack(data)))
    assert not any("l" in s for s in unpack(pack(data))["samples"])
    limit = size // 2
    monkeypatch.setattr(samples, "PACKED_LIMIT", limit)
    text = pack(data)
    found = unpack(text)["samples"]
    assert limit * 0.8 < len(base64.b64decode(text)) <= limit + 40_000  # what gzip holds back
    assert len(found) == 400
    whole = [s["k"][0] for s in found if "l" not in s]
    assert whole.count("R") == [s["k"][0] for s in found].count("R") > 0
    short = [s for s in found if "l" in s]
    assert {s["k"][0] for s in short} <= {"S", "U"}
    assert all(100 <= len(s["o"][0][0]) < samples.LEAST and s["o"][0][1] == 2000 for s in short)


def test_what_a_browser_has_to_search_is_bounded_too(
    sums_card: Callable[[int], CardData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts that compress to nothing do not make a page of any size."""
    data = saying(sums_card(200), lambda i, who: {"outputs": ("ab" * 5000,)})
    monkeypatch.setattr(samples, "UNPACKED_LIMIT", 400_000)
    assert 150_000 < len(gzip.decompress(base64.b64decode(pack(data)))) <= 430_000


@pytest.mark.parametrize("letter", ["x", "é", "我", "😀", "\ud83d", "\x01"])
def test_any_letter_is_cut_to_its_share(
    sums_card: Callable[[int], CardData], monkeypatch: pytest.MonkeyPatch, letter: str
) -> None:
    """The share is of bytes, and half a character comes back as it went in."""
    monkeypatch.setattr(samples, "PACKED_LIMIT", 0)
    data = saying(sums_card(5), lambda i, who: {"outputs": (letter * 3000,)})
    for sample in unpack(pack(data))["samples"]:
        begins, length = sample["o"][0]
        assert length == 3000
        assert set(begins) == {letter}
        assert samples.LEAST / 4 < len(begins.encode("utf-8", "surrogatepass")) <= samples.LEAST


def test_ten_thousand_long_answers_fit_into_a_file(sums_card: Callable[[int], CardData]) -> None:
    """With 2 kB of noise on both sides the page is at most 25 MB."""
    pool = base64.b64encode(random.Random(1).randbytes(30_000_000)).decode()

    def say(i: int, who: str) -> dict[str, Any]:
        start = (2 * i + (who == "was")) * 2000
        return {"outputs": (pool[start : start + 2000],)}

    html = render_card(saying(sums_card(10_000), say))
    assert 20_000_000 < len(html.encode()) <= 25_000_000


def test_metrics_with_a_judge_are_told_apart(demo: CardData) -> None:
    """The script knows which metrics a judge gave, and so offers to look for them."""
    assert [task["judges"] for task in payload_of(demo)["tasks"]] == [[]] * 5

    def judged(metric: Metric | None) -> Metric | None:
        return metric and replace(metric, judge=digest("judge"))

    first, second, *others = demo.family.verdicts
    family = replace(demo.family, verdicts=(first, replace(second, spec=judged(second.spec)), *others))
    assert [task["judges"] for task in payload_of(replace(demo, family=family))["tasks"]] == [[1], [], [], [], []]


def test_lines_are_counted_over_all_tasks(demo: CardData) -> None:
    """A sample's line is its place among the samples of all tasks, in the order of the verdicts."""
    ids: list[tuple[str, str]] = []
    evaluations: Mapping[str, Evaluation] = demo.candidates
    for task in dict.fromkeys(v.task for v in demo.family.verdicts if v.task in evaluations):
        ids += [(task, row.id) for row in evaluations[task].rows]
    told = payload_of(demo)
    assert sorted(s["l"] for s in told["samples"]) == list(range(1, len(ids) + 1))
    assert all(ids[s["l"] - 1] == (told["tasks"][s["a"]]["id"], s["i"]) for s in told["samples"])
