"""Leakage: what is found of planted copies, what is not reported of clean text, and how both are said."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from functools import cache

import pytest
from benchmarks.leakage import Row, clean_rows, edited, eval_sets
from hypothesis import given, settings
from hypothesis import strategies as st

import evalgate.leakage as module
from evalgate.errors import ConfigError, MissingExtraError
from evalgate.leakage import TEMPLATE_ROWS, EvalText, Leak, Leaks, find_leaks, refuse, words

TASK = "suite/task"
TALE = (
    "The lighthouse keeper wrote every evening how many ships had passed, which flags they flew, and whether the fog "
    "had hidden any of them from his lamp. Which page of his book was torn out by the storm? That of the third of May."
)
SHORT = "Who keeps the lamp of the harbour lit? Old Brandt does."  # 11 words
TINY = "Q: 12+7=\nA: 19"  # 6 words: its sign is one of them


def leaks(rows: Sequence[str], *texts: str, **more: str) -> tuple[Leak, ...]:
    """What these rows give away of samples `s0`, `s1` … and of those that are given by id."""
    samples = {f"s{number}": said for number, said in enumerate(texts)} | more
    training = [(f"train.jsonl:{line}", said) for line, said in enumerate(rows, start=1)]
    return find_leaks(training, {TASK: [EvalText(id_, said) for id_, said in samples.items()]}).found[TASK]


def kinds(rows: Sequence[str], said: str) -> list[str]:
    """How one sample leaks."""
    return [leak.kind for leak in leaks(rows, said)]


@cache
def shop(rows: int, seed: int = 0) -> tuple[Row, ...]:
    """Clean training text of the fixture."""
    return tuple(clean_rows(rows, seed))


# -- what is found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [TALE, SHORT, TINY, "?!", "中文没有空格"])
def test_an_exact_copy_is_found_whatever_its_length(said: str) -> None:
    """A row that says the same is named with its line, once, among rows that do not."""
    assert leaks(["something else", said, "more"], said) == (Leak("s0", "exact", 1.0, ("train.jsonl:2",)),)


def test_a_copy_within_a_longer_row_is_found() -> None:
    """From eight words on a sample may stand amid other text; below, any sentence would hold it."""
    amid = "Here is a question from the harbour's quiz. {} Now write three more of this kind, please."
    assert kinds([amid.format(TALE)], TALE) == ["13-gram"]
    assert kinds([amid.format(SHORT)], SHORT) == ["8-gram"]
    assert kinds([amid.format(TINY)], TINY) == []


@pytest.mark.parametrize(
    "copy",
    [
        TALE.upper(),
        TALE.replace(" ", "\n\t ").replace(",", " ;"),
        TALE.replace("fi", "ﬁ").replace("T", "Ｔ"),
        TALE.replace("lamp", "la\u200bmp").replace("storm", "st\u00adorm"),
        f"“{TALE}”",
        f"<|user|>{TALE}<|end|>".replace("? ", "?<|assistant|>"),
        f"<|im_start|>user\n{TALE}<|im_end|>".replace("? ", "?<|im_end|>\n<|im_start|>assistant\n"),
        f"<s>[INST] {TALE}</s>".replace("? ", "? [/INST] "),
    ],
    ids=["case", "space and punctuation", "ligatures and wide letters", "invisible", "quotes", "chat", "im", "inst"],
)
def test_dress_hides_nothing(copy: str) -> None:
    """Case, white space, punctuation, compatibility forms and invisible characters are no difference."""
    assert copy != TALE
    assert kinds([copy], TALE) == ["exact"]


@pytest.mark.parametrize("edits", [1, 2, 3])
def test_small_edits_are_found(edits: int) -> None:
    """Up to three words replaced, dropped, added or swapped in a text of forty, wherever they stand."""
    said = words(TALE)
    for seed in range(50):
        copy = " ".join(edited(said, edits, ["lantern", "tide", "gull"], random.Random(seed)))
        [found] = leaks([copy, "nothing of the kind"], TALE)
        assert found.rows == ("train.jsonl:1",), copy
        assert found.kind in ("near", "13-gram", "exact")  # two swaps may undo each other


def test_sentences_in_another_order_are_found() -> None:
    """A row that tells the same in another order has nearly all of the sample's three-word sequences."""
    first, second = TALE.split("? ")
    [found] = leaks([f"{second} {first}?"], TALE)
    assert found.kind in ("near", "13-gram")
    shuffled = list(words(TALE))
    random.Random(0).shuffle(shuffled)
    assert leaks([" ".join(shuffled)], TALE) == ()


def test_short_items_differ_by_their_signs_and_numbers() -> None:
    """12+7 is not 12-7, nor 12+8, nor 1+27, and a minus is a minus however it is typed."""
    assert kinds(["Q: 12-7=\nA: 5", "Q: 12+8=\nA: 20", "Q: 1+27=\nA: 28", "Q: 12-7=\nA: 19"], TINY) == []
    assert kinds(["Q: 12\u22127=\nA: 5"], "Q: 12-7=\nA: 5") == ["exact"]
    assert words("well - almost, half-done") == ("well", "almost", "half", "done")


def test_every_row_is_named_the_most_alike_first() -> None:
    """The sample is of the kind that its best row shows, and all its rows are there to be removed."""
    near = TALE.replace("flew", "showed").replace("book", "diary")
    [found] = leaks([near, f"Quiz. {TALE}", "else", TALE], TALE)
    assert (found.kind, found.similarity) == ("exact", 1.0)
    assert found.rows == ("train.jsonl:4", "train.jsonl:2", "train.jsonl:1")
    assert str(found) == "s0 (exact, train.jsonl:4 and 2 more)"
    [found] = leaks([near], TALE)
    assert str(found) == f"s0 (near {found.similarity:.0%}, train.jsonl:1)"
    assert 0.5 < found.similarity < 1


def test_a_sample_may_have_several_forms_and_twins() -> None:
    """Texts of one id are one sample; identical samples leak together."""
    training = [("a:1", "Which one? The third.")]
    forms = [
        EvalText("s1", "Q: Which one?\nA: The third."),
        EvalText("s1", "Which one? The third."),
        EvalText("s2", TALE),
    ]
    found = find_leaks(training, {TASK: forms})
    assert found.ids == {TASK: ("s1",)}
    assert found.share(TASK) == 0.5
    assert [leak.id for leak in leaks([TALE], TALE, TALE, SHORT, TALE)] == ["s0", "s1", "s3"]


# -- what is not ------------------------------------------------------------------------------------------------------


def test_the_template_does_not_count() -> None:
    """Words that stand in more than 1 % of the rows are the template's: sharing them gives nothing away."""
    dress = "You are the clerk of a small harbour and you answer every question of a captain shortly and politely."
    rows = [f"{dress} How deep is the water at berth {n}? It is {n + 3} feet." for n in range(40)]
    assert leaks(rows, f"{dress} Whose ship came in last? The grey one.") == ()
    assert kinds(
        [*rows, f"{dress} Whose ship came in last? The grey one."], f"{dress} Whose ship came in last? The grey one."
    ) == ["exact"]


def test_without_the_template_rule_honest_rows_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: the same text as above, and the rule switched off."""
    dress = " ".join(["You answer every question of a captain shortly and politely as becomes a clerk."] * 1)
    rows = [f"{dress} Berth {n}?" for n in range(40)]
    sample = f"{dress} Who came?"
    assert leaks(rows, sample) == ()
    monkeypatch.setattr(module, "TEMPLATE", 1.0)
    assert len(leaks(rows, sample)) == 1


def test_a_leak_does_not_become_a_template_by_repetition() -> None:
    """A row that stands there often counts once, also where it is most of the file."""
    [found] = leaks([f"Quiz. {TALE}"] * 300 + ["else"] * 3, TALE)
    assert (found.kind, len(found.rows)) == ("13-gram", 300)


@pytest.mark.parametrize("rows", [[], [""], ["", "…"], ["one row"]])
def test_tiny_and_empty_training_sets_leak_nothing(rows: list[str]) -> None:
    """Nothing is found where there is nothing, and an empty sample is in no row."""
    assert leaks(rows, TALE, SHORT, TINY) == ()
    assert leaks(rows, "", "   ") == ()


def test_no_eval_sets_and_empty_ones() -> None:
    """There is nothing to leak."""
    assert find_leaks([("a:1", TALE)], {}).found == {}
    empty = find_leaks([("a:1", TALE)], {TASK: []})
    assert (empty.found, empty.share(TASK), empty.ids) == ({TASK: ()}, 0.0, {})


def test_the_clean_split_is_clean() -> None:
    """Of 3,700 held-out samples of the fixture, made from the same templates, at most 0.5 % are reported."""
    found = find_leaks(shop(3000), eval_sets())
    assert sum(found.samples.values()) > 3700
    assert sum(map(len, found.ids.values())) <= 0.005 * sum(found.samples.values())


def test_without_the_peers_rule_the_clean_split_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: as near as to any text is too near for samples that come from templates."""
    monkeypatch.setattr(module, "_bar", lambda items, known, least, alike: least)
    found = find_leaks(shop(3000), eval_sets())
    assert sum(map(len, found.ids.values())) > 0.02 * sum(found.samples.values())


def test_samples_of_one_cluster_do_not_make_each_other_common() -> None:
    """Ten questions about one document are near to each other; by their cluster that is known to mean nothing."""
    rng = random.Random(0)
    vocabulary = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("ale", "ine", "ork", "ust", "emo", "ilt")]
    story = {n: " ".join(rng.choices(vocabulary, k=24)) for n in range(8)}
    texts = [
        (n, k, f"{said} what is {vocabulary[k]} it is {vocabulary[-k]}") for n, said in story.items() for k in range(10)
    ]
    copy = texts[0][2].replace(story[0].split()[12], "other")

    def found(clustered: bool) -> dict[str, tuple[str, ...]]:
        samples = [EvalText(f"{n}-{k}", said, f"doc{n}" if clustered else None) for n, k, said in texts]
        return find_leaks([("a:1", copy)], {TASK: samples}).ids

    assert "0-0" in found(clustered=True)[TASK]
    assert found(clustered=False) == {}


# -- laws -------------------------------------------------------------------------------------------------------------

WORD = st.sampled_from(["ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine", "yew"])
TEXT = st.lists(WORD, min_size=1, max_size=30).map(" ".join)
ANY = settings(max_examples=80, deadline=None)


@ANY
@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=TEMPLATE_ROWS - 4), st.lists(TEXT, min_size=1, max_size=5))
def test_more_training_text_never_hides_a_leak(some: list[str], more: list[str], samples: list[str]) -> None:
    """As long as nothing can be a template, whatever leaked from some rows leaks from these and others."""
    before, after = leaks(some, *samples), leaks([*some, *more], *samples)
    assert {leak.id for leak in before} <= {leak.id for leak in after}
    best = {leak.id: leak for leak in after}
    assert all(best[leak.id].similarity >= leak.similarity or best[leak.id].kind != leak.kind for leak in before)


@ANY
@given(st.lists(TEXT, min_size=1, max_size=40), st.data())
def test_an_exact_copy_is_found_in_any_company(rows: list[str], data: st.DataObject) -> None:
    """No template, no number of rows and no other sample hides it."""
    said = data.draw(st.sampled_from(rows))
    found = {leak.id: leak for leak in leaks(rows, said, *rows[:5])}
    assert found["s0"].kind == "exact"
    assert found["s0"].rows[0] == f"train.jsonl:{rows.index(said) + 1}"


@ANY
@given(st.lists(TEXT, max_size=12), st.lists(TEXT, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_samples_changes_only_the_order_of_rows(
    rows: list[str], samples: list[str], rng: random.Random
) -> None:
    """The same samples leak, of the same kind and as much, however either side is sorted."""
    turned, named = list(rows), {f"s{n}": said for n, said in enumerate(samples)}
    rng.shuffle(turned)
    mixed = dict(rng.sample(list(named.items()), len(named)))
    here, there = (
        [(o.id, o.kind, o.similarity) for o in leaks(*a, **k)] for a, k in (((rows,), named), ((turned,), mixed))
    )
    assert here == there


@ANY
@given(TEXT)
def test_words_of_words_are_the_words(said: str) -> None:
    """Normal form is normal: joined and split again, nothing changes."""
    assert words(" ".join(words(said))) == words(said)


# -- cost -------------------------------------------------------------------------------------------------------------


class Stream:
    """Training text that is made while it is read."""

    def __init__(self, rows: int) -> None:
        self.rows, self.reads = rows, 0

    def __iter__(self) -> Iterator[tuple[str, str]]:
        self.reads += 1
        rng = random.Random(0)
        for n in range(self.rows):
            yield f"train.jsonl:{n}", " ".join(rng.choices(("tide", "gull", "rope", "mast", "sail"), k=200))


def test_training_text_is_streamed_twice_and_not_held() -> None:
    """A megabyte of rows leaves less than a quarter of that behind."""
    assert leaks([TALE], TALE)  # what is loaded once is loaded
    tracemalloc.start()
    try:
        stream = Stream(1000)
        assert find_leaks(stream, {TASK: [EvalText("s0", TALE)]}).ids == {}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stream.reads == 2
    assert peak < 250_000


def test_what_can_be_read_only_once_is_refused() -> None:
    """The second reading would find nothing, which must not look like clean data."""
    with pytest.raises(TypeError, match="read twice"):
        find_leaks(iter([("a:1", TALE)]), {TASK: [EvalText("s0", TALE)]})


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without datasketch nothing is said to be clean."""
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(MissingExtraError, match=r"datasketch is not installed.*\[train\]"):
        leaks([TALE], TALE)


# -- what is said -----------------------------------------------------------------------------------------------------


def many(leaked: int, samples: int, task: str = TASK) -> Leaks:
    """So many exact leaks."""
    found = tuple(Leak(f"s{n}", "exact", 1.0, (f"train.jsonl:{n + 1}",)) for n in range(leaked))
    return Leaks({task: found}, {task: samples})


def test_lines_name_the_first_samples() -> None:
    """A line per set that leaked; one line where none did."""
    assert many(5, 200).lines() == [
        "suite/task: 5 of 200 samples (2.50%) stand in the training text: s0 (exact, train.jsonl:1), "
        "s1 (exact, train.jsonl:2), s2 (exact, train.jsonl:3) and 2 more"
    ]
    assert many(0, 1200).lines() == ["none of 1,200 eval samples stands in the training text"]


def test_json_holds_every_leak() -> None:
    """What reports are made from; sets without leaks are left out."""
    row = {"id": "s0", "kind": "exact", "similarity": 1.0, "rows": ("train.jsonl:1",)}
    assert many(1, 9).as_json() == {TASK: [row]}
    assert many(0, 9).as_json() == {}


@pytest.mark.parametrize(
    ("leaked", "limit", "stops"), [(0, 0.0, False), (1, 0.0, True), (1, 0.01, False), (2, 0.01, True)]
)
def test_more_than_is_tolerated_stops_the_training(leaked: int, limit: float, stops: bool) -> None:
    """One of a hundred is no more than 1 %; with 0, the default, any leak stops."""
    if not stops:
        refuse(many(leaked, 100), limit)
        return
    with pytest.raises(ConfigError) as caught:
        refuse(many(leaked, 100), limit)
    said = str(caught.value)
    assert "\n" not in said
    for part in (
        "data.max_leaked",
        TASK,
        f"{leaked} of 100",
        "s0 (exact, train.jsonl:1)",
        f"tolerated are {limit:.2%}",
    ):
        assert part in said
    assert said.endswith("Remove these rows from the training data, or raise data.max_leaked to train all the same.")


def test_the_worst_set_is_named_and_the_others_counted() -> None:
    """One line, whatever leaked."""
    both = Leaks({**many(1, 100, "a/a").found, **many(5, 100, "b/b").found}, {"a/a": 100, "b/b": 100})
    with pytest.raises(ConfigError, match=r"b/b: 5 of 100 .*; also a/a\. Remove"):
        refuse(both, 0.0)
    with pytest.raises(ConfigError) as caught:
        refuse(both, 0.02)
    assert "a/a" not in str(caught.value)
