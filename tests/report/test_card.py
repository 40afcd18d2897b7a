"""The card as text: what it says, what it weighs, and that the same data make the same bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import unescape
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from evalgate.digest import digest, short
from evalgate.evaluation import Evaluation
from evalgate.gate import Outcome
from evalgate.report import CardData, render_card, samples, sides, view, write_card
from evalgate.report.samples import BUCKETS, payload


def shown(html: str) -> str:
    """The visible text, one space between words."""
    body = re.sub(r"<(script|style|noscript)[ >].*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def data_of(html: str) -> Any:
    """What the card's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_card_says_what_came_out_and_why(demo: CardData) -> None:
    """Verdict, reason, every metric with its numbers, slices, the pooled test and members that did not run."""
    html = render_card(demo)
    text = shown(html)
    assert "<title>v3: REGRESSION · evalgate</title>" in html
    for said in (
        "v3 is worse than the baseline",
        "blocking metrics passed 2 of 5",
        "worst slice: digits=2 -17.4 pt",
        "exact_match blocks worse: p",
        "-6.0 pt [-8.5, -3.7] .936 → .876 500 < .0001 level .025 41 / 11",
        "can see drops of 32.3 pt",
        "with the 90 % interval",
        "chat/identity exact_match blocks no baseline yet",
        "digits=2 warns -17.4 pt .964 → .790 167 < .0001",
        "Pooled over the blocking metrics: +1.8 pt [-2.8, +6.5], n = 945",
        "counted against the family as undecided: reviews/sentiment::exact_match",
    ):
        assert said in text


def test_the_card_says_what_was_compared(demo: CardData) -> None:
    """Differing environments, golden samples, digests, sampling, seeds, acceptance, policy, command and ledger."""
    text = shown(render_card(demo))
    task = demo.candidates["arithmetic/addition"]
    for said in (
        "engine.version: candidate 0.32.0, baseline 0.31.0",
        "engine.version differs 0.32.0 0.32.0 (arithmetic/addition, facts/lookup, prose/heldout); 0.31.0 (orders/ext",
        "torch differs 2.13.0 2.13.0 (arithmetic/addition, facts/lookup, prose/heldout); not stated (orders/",
        "arithmetic/addition 2 none",
        f"record differs {task.digest} {demo.baselines['arithmetic/addition'].digest}",
        f"eval data {task.samples} {task.samples}",
        "sampling.max_tokens 16 16",
        "seed 0 0",
        "accepted.why not stated shipped on Monday",
        "0 to 1, higher is better, margin 0.02, floor 0.8, sha256:",
        "0 to ∞, lower is better, sha256:",
        "identity.template none none",
        "inconclusive warn",
        "Run it again pytest evalsuites/ --model runs/v3",
        "created 2026-11-20T21:04:41+00:00 2026-11-20T21:04:12+00:00",
        f"Ledger head {demo.ledger_head}",
        "Generated 2026-11-20T21:05:00+00:00",
    ):
        assert said in text


def test_what_nobody_stated_is_said_not_to_be_stated(demo: CardData) -> None:
    """Without statement, ledger, baseline or environment the card says so instead of leaving a gap."""
    bare = {
        task: replace(evaluation, environment={}, provenance={}, policy={})
        for task, evaluation in demo.candidates.items()
    }
    family = replace(demo.family, partial=(), pooled=None)
    text = shown(
        render_card(replace(demo, family=family, candidates=bare, baselines={}, statement=None, ledger_head=None))
    )
    assert "Ledger head not stated" in text
    assert "limitations, risks: not stated" in text
    assert re.search(r"Environment Field Candidate Baseline not stated", text)
    assert "Golden samples: none declared" in text
    assert "Pooled" not in text
    assert "undecided" not in text


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_word_a_shape_and_a_sentence(demo: CardData, outcome: Outcome) -> None:
    """No verdict is told by colour alone."""
    html = render_card(replace(demo, family=replace(demo.family, outcome=outcome)))
    assert f'<p class="outcome">{outcome}</p>' in html
    assert f'<svg class="symbol {view.shape(outcome)}" width="64"' in html
    assert view.headline("v3", outcome).startswith("v3")


def test_the_statement_is_markdown_below_the_cards_own_headings(demo: CardData) -> None:
    """Headings, emphasis, tables and lists come out; there is one first-level heading; images and HTML stay text."""
    html = render_card(demo)
    assert len(re.findall(r"<h1[ >]", html)) == 1
    assert "<h3>Shop assistant</h3>" in html
    assert "<h4>Intended use</h4>" in html
    assert "<strong>JSON</strong>" in html
    assert "<td>18,400</td>" in html
    hostile = render_card(replace(demo, statement="![x](http://example.org/x.png) <img src=y> [z](javascript:a)"))
    assert "<img" not in hostile
    assert 'href="javascript' not in hostile


def test_the_policy_allows_exactly_what_is_in_the_file(demo: CardData) -> None:
    """The hashes are those of the one style and the one script that run; nothing unsafe is allowed."""
    html = render_card(demo)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy
    for tag in ("style", "script"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        hashed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{hashed}'" in unescape(policy[1])
    assert "unsafe" not in policy[1]
    assert not re.search(r'\s(style|on\w+)="', re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    assert not re.search(r"(src|href)=.?https?:", html)


def test_the_same_data_make_the_same_bytes(demo: CardData) -> None:
    """Nothing in the card depends on when, where or how often it is rendered."""
    turned = {task: demo.candidates[task] for task in reversed(list(demo.candidates))}
    assert render_card(demo) == render_card(demo) == render_card(replace(demo, candidates=turned))


def test_a_large_card_is_small_and_quick(sums_card: Callable[[int], CardData]) -> None:
    """5,000 short samples weigh at most 1.5 MB and take at most 3 seconds."""
    data = sums_card(5000)
    assert data.candidates["sums/all"].digest  # its cost is the record's, not the card's
    assert data.baselines["sums/all"].digest
    began = perf_counter()
    html = render_card(data)
    took = perf_counter() - began
    assert len(html.encode()) <= 1_500_000
    assert took <= 3
    assert len(data_of(html)["samples"]) == 5000


def test_samples_are_sorted_into_the_buckets_of_their_comparison(demo: CardData) -> None:
    """Bucket counts are the comparison's, regressed samples come first, and identical outputs are stored once."""
    found = payload(demo.family, demo.candidates, demo.baselines)
    comparison = demo.family.verdicts[0].comparison
    assert comparison
    sums = [sample for sample in found["samples"] if sample["a"] == 0]
    by_bucket = {letter: {s["i"] for s in sums if s["k"][1] == letter} for letter in BUCKETS}
    assert by_bucket["R"] == set(comparison.broken)
    assert by_bucket["F"] == set(comparison.fixed)
    rows = {row.id: row for row in demo.candidates["arithmetic/addition"].rows}
    assert all(rows[i].scores["exact_match"] == 0 for i in by_bucket["S"])
    assert all(rows[i].scores["exact_match"] == 1 for i in by_bucket["U"])
    ranks = ["REFSNU".index(sample["k"][0]) for sample in found["samples"]]
    assert ranks == sorted(ranks)
    before = {row.id: row for row in demo.baselines["arithmetic/addition"].rows}
    assert all(("w" in sample) == (before[sample["i"]].outputs != rows[sample["i"]].outputs) for sample in sums)
    assert {s["k"] for s in found["samples"] if found["tasks"][s["a"]]["id"] == "chat/identity"} == {"NN"}
    assert found["views"] == [[0, 0], [0, 1], [1, 0], [2, 0], [3, 0], [4, 0]]


def test_bits_per_byte_never_still_fail(demo: CardData) -> None:
    """A metric without a worst end has no samples that still fail."""
    found = payload(demo.family, demo.candidates, demo.baselines)
    assert {s["k"][0] for s in found["samples"] if s["a"] == 3} <= set("RFU")


def test_a_row_without_an_answer_has_a_bucket_of_its_own(demo: CardData) -> None:
    """An error is never a score: the sample says why, wherever its score stands."""
    task = "orders/extraction"
    broken = replace(demo.candidates[task].rows[5], error="the engine died", scores={}, outputs=())
    rows = (*demo.candidates[task].rows[:5], broken, *demo.candidates[task].rows[6:])
    candidates = {**demo.candidates, task: replace(demo.candidates[task], rows=rows)}
    found = payload(demo.family, candidates, demo.baselines)
    (sample,) = (s for s in found["samples"] if s.get("e"))
    assert (sample["k"], sample["i"], sample["e"]) == ("EE", broken.id, "the engine died")


def test_a_sample_says_which_metrics_have_no_score_and_why(demo: CardData) -> None:
    """Its answer stays, and so do the other metrics' scores; each fault stands with its metric."""
    task = "arithmetic/addition"
    faults = {"chrf": "sample sums-0003: judge tiny: gave the grade 9", "exact_match": "it misjudged 3 of 12 canaries"}
    rows = list(demo.candidates[task].rows)
    rows[3] = replace(rows[3], scores={}, faults=faults)
    rows[4] = replace(rows[4], scores={"exact_match": 1.0}, faults={"chrf": faults["chrf"]})
    candidates = {**demo.candidates, task: replace(demo.candidates[task], rows=tuple(rows))}
    none, one = (s for s in payload(demo.family, candidates, demo.baselines)["samples"] if s.get("e"))
    if none["i"] != rows[3].id:
        none, one = one, none
    assert none["k"] == "EEE"
    assert none["e"] == "\n".join(f"{name}: {why}" for name, why in faults.items())
    assert none["o"] == [*rows[3].outputs]
    assert one["k"][2] == "E"
    assert "E" not in one["k"][:2]
    assert one["e"] == f"chrf: {faults['chrf']}"


def test_what_every_sample_lacks_is_told_once(demo: CardData) -> None:
    """A judge that missed its canaries has no score anywhere: that stands beside its metric, and at no sample."""
    task = "arithmetic/addition"
    rows = [
        replace(row, scores={"exact_match": 1.0}, faults={"chrf": "it misjudged 3 of 12 canaries"})
        for row in demo.candidates[task].rows
    ]
    rows[7] = replace(rows[7], faults={**rows[7].faults, "exact_match": "its own"})
    candidates = {**demo.candidates, task: replace(demo.candidates[task], rows=tuple(rows))}
    told = [s for s in payload(demo.family, candidates, demo.baselines)["samples"] if s.get("e")]
    assert [(sample["i"], sample["e"]) for sample in told] == [(rows[7].id, "exact_match: its own")]


# -- judges -----------------------------------------------------------------------------------------------------------

TINY = {"name": "tiny", "model": "judge", "weights": digest("w"), "engine": {"name": "vllm"}, "digest": digest("tiny")}
SAID = {
    "kind": "native",
    "models": [TINY],
    "versions": {},
    "settings": {"rubric": "Is the sum right?", "scale": {"1": "", "2": ""}, "template": None},
    "kappa": 0.934,
    "labels": 1200,
}


def judged_card(demo: CardData, said: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> CardData:
    """The demo, with a judge behind one metric on both sides."""
    task = "arithmetic/addition"

    def judged(side: Evaluation, described: Mapping[str, Any]) -> Evaluation:
        exact, *others = side.metrics
        environment = {**side.environment, "judges": {exact.name: described}}
        return replace(side, metrics=(replace(exact, judge=digest("it")), *others), environment=environment)

    now = {**demo.candidates, task: judged(demo.candidates[task], said)}
    was = {**demo.baselines, task: judged(demo.baselines[task], before or said)}
    return replace(demo, candidates=now, baselines=was)


def test_the_card_says_who_judged(demo: CardData) -> None:
    """Model, digests, agreement with people, rubric and settings stand with the task's digests."""
    text = shown(render_card(judged_card(demo, SAID)))
    for said in (
        "metric exact_match, judge native, tiny: judge " + short(digest("tiny")),
        "exact_match, agrees with people kappa 0.93 on 1,200 labels",
        "exact_match, setting.rubric Is the sum right?",
        'exact_match, setting.scale {"1": "", "2": ""}',
        f"exact_match, identity {digest('it')}",
    ):
        assert said in text
    assert "judges.exact_match" not in text, "the environment says it a second time"


def test_the_card_says_what_nobody_measured_and_what_changed(demo: CardData) -> None:
    """A judge without calibration is called so; what differs between the sides is marked."""
    library = SAID | {"kind": "ragas", "versions": {"ragas": "0.4.3"}, "kappa": None, "labels": None}
    text = shown(render_card(judged_card(demo, library, library | {"versions": {"ragas": "0.4.2"}})))
    assert "exact_match, agrees with people uncalibrated uncalibrated" in text
    assert "exact_match, version.ragas differs 0.4.3 0.4.2" in text
    assert f"exact_match, judge ragas, tiny: judge {short(digest('tiny'))} ragas, tiny" in text
    alone = shown(render_card(judged_card(demo, library | {"models": []})))
    assert "exact_match, judge ragas, asks no model" in alone


def test_without_judges_the_card_says_nothing_of_them(demo: CardData) -> None:
    """The negative control, also where a record describes a judge that its metric does not have."""
    assert "exact_match, judge" not in shown(render_card(demo))
    task = "arithmetic/addition"
    stray = replace(demo.candidates[task], environment={"judges": {"exact_match": SAID}})
    assert "exact_match, judge" not in shown(render_card(replace(demo, candidates={**demo.candidates, task: stray})))


def test_a_sample_without_partner_is_not_compared(demo: CardData) -> None:
    """A new sample, or one that is asked otherwise than before, says so instead of taking a side."""
    verdict = demo.family.verdicts[0]
    assert verdict.comparison
    task, row = verdict.task, demo.candidates[verdict.task].rows[3]
    alone = replace(verdict, comparison=replace(verdict.comparison, only_candidate=(row.id,), only_baseline=("x", "y")))
    family = replace(demo.family, verdicts=(alone,))
    before = replace(demo.baselines[task].rows[3], prompt="asked otherwise")
    rows = (*demo.baselines[task].rows[:3], before, *demo.baselines[task].rows[4:])
    baselines = {task: replace(demo.baselines[task], rows=rows)}
    found = payload(family, demo.candidates, baselines)
    (sample,) = (s for s in found["samples"] if s["i"] == row.id)
    assert (sample["k"], sample["q"]) == ("NN", "asked otherwise")
    text = shown(render_card(replace(demo, family=family, baselines=baselines)))
    assert f"Only in the candidate: 1 ({row.id})." in text
    assert "Only in the baseline: 2 (x, y)." in text


def test_too_many_samples_leave_out_the_least_telling(
    sums_card: Callable[[int], CardData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit what regressed stays, what is unchanged goes, and the card counts what is missing."""
    data = sums_card(300)
    monkeypatch.setattr(samples, "SAMPLE_LIMIT", 40)
    monkeypatch.setattr(samples, "TEXT_LIMIT", 5)
    found = payload(data.family, data.candidates, data.baselines)
    (verdict,) = data.family.verdicts
    assert verdict.comparison
    assert found["left_out"] == 260
    assert [s["i"] for s in found["samples"] if s["k"][0] == "R"] == sorted(verdict.comparison.broken)[:40]
    assert found["samples"][0]["p"].endswith("characters; the record holds them all)")


def test_aa_and_drift_are_said(demo: CardData) -> None:
    """The same weights on both sides, and the distance from the first accepted evaluation, are said."""
    verdict = demo.family.verdicts[0]
    assert verdict.comparison
    same = replace(verdict, comparison=replace(verdict.comparison, same_weights=True), anchor=verdict.comparison)
    text = shown(render_card(replace(demo, family=replace(demo.family, verdicts=(same,)))))
    assert "A/A: candidate and baseline are the same checkpoint." in text
    assert "Since the first accepted evaluation of this line: -6.0 pt" in text
    clean = replace(demo.family, verdicts=(verdict,))
    assert "Every comparison paired all samples" in shown(render_card(replace(demo, family=clean)))


def test_broken_golden_samples_are_named(demo: CardData) -> None:
    """The card lists by id what must not have broken and did."""
    verdict = demo.family.verdicts[0]
    assert verdict.comparison
    broken = replace(verdict, comparison=replace(verdict.comparison, golden_broken=("sums-0001",)))
    family = replace(demo.family, verdicts=(broken, *demo.family.verdicts[1:]))
    assert "arithmetic/addition 2 sums-0001" in shown(render_card(replace(demo, family=family)))


def test_slices_beyond_a_dozen_are_counted(demo: CardData) -> None:
    """A slice with hundreds of values shows its worst and says how many more there are."""
    verdict = demo.family.verdicts[0]
    assert verdict.comparison
    many = tuple(replace(verdict.comparison.slices[0], value=str(i), q=None) for i in range(40))
    family = replace(demo.family, verdicts=(replace(verdict, comparison=replace(verdict.comparison, slices=many)),))
    assert "28 more, none worse than these" in shown(render_card(replace(demo, family=family)))


def test_slices_that_block_are_marked_and_never_left_out(reserve_card: Callable[..., CardData]) -> None:
    """A slice that is gated by itself has its adjusted p beside the level, and stands there however well it did."""
    data = reserve_card("keep")
    text = shown(render_card(data))
    assert "Slice Difference Was → now n q Adjusted p level .025" in text
    assert re.search(r"digits=2 blocks, worse -17\.0 pt \.960 → \.790 100 \.00037 \.00024", text)
    assert re.search(r"digits=1 blocks 0\.0 pt \.960 → \.960 100 \.5 \.73", text)
    assert re.search(r"carry=yes warns -8\.1 pt \S+ → \S+ 135 \S+ –", text)
    verdict = data.family.verdicts[0]
    assert verdict.comparison
    part = next(part for part in verdict.comparison.slices if part.value == "1")
    free = replace(part, blocking=False, p_adjusted=None)
    many = (*(replace(free, value=f"v{i}") for i in range(15)), replace(part, value="last"))
    crowded = replace(verdict, comparison=replace(verdict.comparison, slices=many))
    text = shown(render_card(replace(data, family=replace(data.family, verdicts=(crowded,)))))
    assert "digits=last blocks" in text
    assert "digits=v12" not in text
    assert "3 more, none blocks or is worse than the first 12" in text


def test_slices_that_only_warn_have_no_adjusted_p(demo: CardData) -> None:
    """Without a slice that blocks there is no column for one."""
    assert "Adjusted p" not in render_card(demo)


def test_the_noise_floor_and_what_the_run_says_are_shown(demo: CardData, reserve_card: Callable[..., CardData]) -> None:
    """Noise floor and determinism stand with the environment, notes with comparability; what is missing is said."""
    text = shown(render_card(reserve_card("keep")))
    assert "Noise floor: 48 baseline prompts of v2 answered again, token-identical (batch invariance off, cpu)" in text
    off = "scheduling: batch invariance off, the last bits of an answer depend on what runs beside it"
    assert f"engine.determinism {off} {off}" in text
    assert "chosen among 5 candidates. 1.5 false alarms are to be expected in 30 runs. Every comparison" in text
    assert "Noise floor: not measured" in shown(render_card(demo))
    assert '<ul class="said">' not in render_card(demo)


@pytest.mark.parametrize(
    ("mode", "said"),
    [("batch-invariant", "batch invariance on"), ("scheduling", "batch invariance off"), ("new", "new")],
)
def test_determinism_is_said_in_words(demo: CardData, mode: str, said: str) -> None:
    """Each mode is explained, and a mode that nobody knows is shown as it is; sides that differ are marked."""
    task = "arithmetic/addition"
    now = replace(demo.candidates[task], environment={"engine": {"determinism": mode}})
    (field,) = sides.environment({task: now}, {task: replace(now, environment={"engine": {"determinism": "old"}})})
    assert field.name == "engine.determinism"
    assert field.candidate.startswith(mode)
    assert said in field.candidate
    assert (field.baseline, field.differs) == ("old", True)


def test_looks_and_confirmations_are_said_at_the_metric(reserve_card: Callable[..., CardData]) -> None:
    """A metric says how often its reserve was looked at, or what the reserve showed; where it is kept, neither."""
    assert "Reserve: look 2 of 2; p is that of an e-value, which holds at every look." in shown(
        render_card(reserve_card("top-up"))
    )
    confirmed = reserve_card("confirm")
    assert confirmed.family.verdicts[0].confirmation
    assert "Reserve: of 200 samples 17 broke and 4 were fixed, p = .0022." in shown(render_card(confirmed))
    kept = reserve_card("keep")
    assert "Reserve:" not in render_card(kept)
    verdict = kept.family.verdicts[0]
    assert verdict.comparison
    comparison = replace(verdict.comparison, test=replace(verdict.comparison.test, method="prediction-powered"))
    judged = replace(kept.family, verdicts=(replace(verdict, comparison=comparison),))
    assert "corrected by human labels" in shown(render_card(replace(kept, family=judged)))
    assert "corrected by human labels" not in shown(render_card(kept))


def test_samples_of_the_reserve_are_sorted_by_what_compared_them(reserve_card: Callable[..., CardData]) -> None:
    """Confirmed or looked at they have a bucket; kept back they are not compared; each says which step drew it."""
    for reserve, last in (("keep", 0), ("confirm", 0), ("top-up", 2)):
        data = reserve_card(reserve)
        found = payload(data.family, data.candidates, data.baselines)["samples"]
        looks = {row.id: row.look for row in data.candidates["sums/all"].rows}
        verdict = data.family.verdicts[0]
        assert verdict.comparison
        broken = {*verdict.comparison.broken, *(verdict.confirmation.broken if verdict.confirmation else ())}
        assert {s["i"] for s in found if s["k"][1] == "R"} == broken
        alone = {s["i"] for s in found if s["k"][1] == "N"}
        assert alone == {i for i, look in looks.items() if look > last and not verdict.confirmation}
        assert all(f"reserve={looks[s['i']] or 'no'}" in s["g"] for s in found)
    early = replace(verdict, look=(1, 2))
    assert samples.View(early).bucket(next(row for row in data.candidates["sums/all"].rows if row.look == 2)) == "N"


def test_near_ties_mark_flips_by_the_metric_they_flip(reserve_card: Callable[..., CardData]) -> None:
    """A near tie is marked in the views in which it broke or was fixed, with its gap, and counted at the metric."""
    data = reserve_card("top-up")
    exact = data.family.verdicts[0]
    assert exact.comparison
    ids = set(data.near_ties["sums/all::exact_match"])
    found = {s["i"]: s for s in payload(data.family, data.candidates, data.baselines, data.near_ties)["samples"]}
    assert {i for i, s in found.items() if 0 in s.get("n", ())} == ids
    assert (
        {i for i, s in found.items() if 1 in s.get("n", ())}
        == ids
        <= {*exact.comparison.broken, *exact.comparison.fixed}
    )
    assert {s["m"] for s in found.values() if "n" in s} == {2e-5}
    assert all(s["k"][2] in "RF" for s in found.values() if 2 in s.get("n", ()))  # chrf compares no reserve
    assert not any("n" in s for s in payload(data.family, data.candidates, data.baselines)["samples"])
    broken, fixed = (len(ids.intersection(side)) for side in (exact.comparison.broken, exact.comparison.fixed))
    html = render_card(data)
    assert f"41 / 10 near ties {broken} / {fixed}" in shown(html)
    assert "near tie marks a sample that broke or was fixed where two tokens were closer" in shown(html)
    assert "near tie" not in shown(render_card(replace(data, near_ties={"sums/all::exact_match": ()})))


def test_a_sample_that_another_blocking_metric_surely_broke_is_no_near_tie(
    reserve_card: Callable[..., CardData],
) -> None:
    """Over several blocking metrics a sample is a near tie where noise can make all that was seen of it."""
    data = reserve_card("top-up")
    exact, chrf = data.family.verdicts
    both = replace(data.family, verdicts=(exact, replace(chrf, blocking=True)))
    assert chrf.comparison
    id_ = next(i for i in chrf.comparison.broken if i in data.near_ties["sums/all::exact_match"])
    for ties, places in (({"sums/all::exact_match": (id_,)}, [1]), (data.near_ties, [0, 1, 2])):
        found = payload(both, data.candidates, data.baselines, ties)["samples"]
        assert next(s["n"] for s in found if s["i"] == id_) == places


def test_the_record_of_a_view_is_the_one_that_was_accepted(demo: CardData) -> None:
    """Scores made anew from stored outputs show the digest of the record they come from."""
    task = "arithmetic/addition"
    again = replace(demo.baselines[task], metrics=(), origin=demo.baselines[task].digest)
    text = shown(render_card(replace(demo, baselines={task: again})))
    assert again.digest not in text
    assert f"record differs {demo.candidates[task].digest} {demo.baselines[task].digest}" in text


@pytest.mark.parametrize(("furthest", "limit"), [(0.0, 1), (0.99, 1), (3.0, 5), (19.5, 20), (20.0, 20), (450.0, 100)])
def test_the_axis_is_the_smallest_round_one(furthest: float, limit: float) -> None:
    """Every plot shares an axis that holds the widest interval; what lies outside is drawn at its edge."""
    scale = view.Scale.over([(-furthest, 0.0, furthest / 2)])
    assert scale.limit == limit
    assert scale.x(0) == scale.width / 2
    assert scale.x(-limit) == scale.pad
    assert scale.x(math.inf) == scale.x(limit) == scale.width - scale.pad
    assert view.Scale.over([]).limit == 1


def test_the_file_is_whole_or_not_there(demo: CardData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card appears complete in a folder that is made for it; a failure leaves the old one and no litter."""
    page = write_card(demo, tmp_path / "reports" / "v3")
    assert page == tmp_path / "reports" / "v3" / "index.html"
    assert page.read_bytes().decode() == render_card(demo)
    assert page.stat().st_mode & 0o777 == 0o644
    before = page.read_bytes()
    monkeypatch.setattr("os.replace", _fail)
    with pytest.raises(OSError, match="no space"):
        write_card(replace(demo, name="v4"), page.parent)
    assert list(page.parent.iterdir()) == [page]
    assert page.read_bytes() == before


def _fail(*_: object) -> None:
    raise OSError("no space")


def test_lone_surrogates_can_be_written(hostile_card: Callable[[str], CardData], tmp_path: Path) -> None:
    """A model may emit half a character; the card replaces it in tables and keeps it in the samples' JSON."""
    page = write_card(hostile_card("half \ud83d"), tmp_path)
    html = page.read_text("utf-8")
    assert "half \ufffd" in html
    assert "half \ud83d" in {sample["p"] for sample in data_of(html)["samples"]}


def test_importing_the_report_is_light() -> None:
    """The card's libraries are imported when a card is rendered, not when the plugin starts."""
    code = "import sys, evalgate.report.terminal; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["jinja2", "markupsafe", "markdown_it", "numpy", "scipy", "pandas", "rich", "pytest"]
    run = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
