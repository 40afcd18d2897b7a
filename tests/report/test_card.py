"""The card as text: what it says, what it weighs, and that the same data make the same bytes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.report.conftest import write_card

from evalgate.digest import digest, short
from evalgate.evaluation import Evaluation
from evalgate.gate import Gate, Member, Outcome, Policy, decide
from evalgate.report import CardData, render_card, samples
from evalgate.report.card import sides, view
from evalgate.report.samples import BUCKETS, payload


def shown(html: str) -> str:
    """The visible text, one space between words."""
    body = re.sub(r"<(script|style|noscript)[ >].*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def data_of(html: str) -> Any:
    """What the card's script reads."""
    found = re.search(r'<script type="[^"]+" id="data">([^<]*)</script>', html)
    assert found
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


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
        "-6.0 pt [-8.5, -3.7] .936 → .876 n 500 first measurement < .0001 level .025 41 / 11",
        "can see drops of 32.3 pt",
        "with the 90 % interval",
        "chat/identity exact_match blocks no baseline yet",
        "digits=2 warns -17.4 pt .964 → .790 167 < .0001",
        "INCONCLUSIVE Pooled over the blocking metrics no more than 2.0 pt worse: p .089 +1.8 pt [-2.8, +6.5] –",
        "counted against the family as undecided: reviews/sentiment::exact_match",
    ):
        assert said in text


def test_the_banner_says_what_stands_in_the_way(demo: CardData) -> None:
    """In five seconds: blocked or not, and of each blocking metric that does not pass, how far and where."""
    text = shown(render_card(demo))
    banner = text[text.index("REGRESSION · ") : text.index("blocking metrics passed")]
    assert "1 of 5 metrics REGRESSION; pooled" in banner
    assert banner.count("exact_match") == 3  # of each finding once
    broke = "worst where digits=2 (-17.4 pt) see what broke"
    assert f"arithmetic/addition / exact_match -6.0 pt [-8.5, -3.7], 2.0 pt tolerated; {broke}" in banner
    assert "facts/lookup / exact_match +4.4 pt [-11.1, +19.5], 5.0 pt tolerated; can see drops of 32.3 pt" in banner
    assert "chat/identity / exact_match no baseline yet" in banner
    assert banner.index("facts/lookup") > banner.index("chat/identity") > banner.index("arithmetic/addition")
    for never in ("chrf", "orders/extraction", "prose/heldout"):
        assert never not in banner


def test_the_banner_says_the_reason_of_a_single_metric_once() -> None:
    """With one metric the gate's reason is that metric's, which stands right below."""
    failed = Member(task="sums/all", metric="exact_match", blocking=True, gate=Gate(), error="the engine stopped")
    alone = decide([failed], Policy())
    assert alone.reason == "the engine stopped"
    assert view.reason(alone) == ""
    partial = decide([failed, replace(failed, task="sums/more", blocking=False, error=None, ran=False)], Policy())
    assert view.reason(partial) == "PARTIAL: 1 of 2 metrics did not run"


@pytest.mark.parametrize(
    ("outcome", "inconclusive", "said"),
    [
        (Outcome.PASS, "fail", "passes the gate"),
        (Outcome.REGRESSION, "warn", "blocked by the gate"),
        (Outcome.INCONCLUSIVE, "warn", "let through with a warning"),
        (Outcome.INCONCLUSIVE, "fail", "blocked by the gate"),
        (Outcome.ERROR, "warn", "blocked by the gate"),
    ],
)
def test_the_card_says_whether_the_gate_blocks(demo: CardData, outcome: Outcome, inconclusive: str, said: str) -> None:
    """An outcome alone does not say it: the policy in force does."""
    family = replace(demo.family, outcome=outcome, policy=replace(demo.family.policy, inconclusive=inconclusive))
    assert f'{outcome} <span class="gate">{said}</span>' in render_card(replace(demo, family=family))


def test_a_card_where_nothing_stands_in_the_way_has_no_list(demo: CardData) -> None:
    """What passes, or only informs, is no finding; of very many the gravest are shown and the rest counted."""
    informs, passes = demo.family.verdicts[1:3]
    assert view.findings(view.lines(replace(demo.family, verdicts=(informs, passes)))) == []
    many = replace(demo.family, verdicts=(*(demo.family.verdicts[3],) * 6, demo.family.verdicts[0]))
    found = view.findings(view.lines(many))
    assert [finding.line.shape for finding in found] == ["regression", *["inconclusive"] * 6]
    assert '<li><a href="#metrics">2 more</a></li>' in render_card(replace(demo, family=many))


def test_everything_that_is_known_is_shown(full: CardData) -> None:
    """History, judges, power, noise, training, tokens, costs and the commands each have their place, in order."""
    html = render_card(full)
    text = shown(html)
    for said in (
        "4 versions .793 to .876",
        "Judge native, tiny: judge-v1 (",
        "Agreement with people kappa 0.93 on 1,200 labels",
        "Beside the verdict answers are 31 % longer than the baseline's",
        "power .80 at level .005 (alpha .05, 5 tests), as it stood before the run.",
        "facts/lookup::exact_match 45 20.0%* 24.3 pt 2.0 pt 5837 underpowered: sees 24.3 pt of 2.0, needs 5837, has 45",
        "Noise floor 48 baseline prompts",
        "Why Customers ask for differences, and v2 cannot subtract",
        "Training loss nats per token 2.39 0.423 step 1 step 1,200",
        "Gradient norm",
        "Learning rate",
        "data/orders.jsonl 17,950 of 18,400 messages shuffled with seed 0; packed sha256:",
        "Eval samples in the training text facts/lookup: facts-0003",
        "1,040 answers generated in 83.4 s, 455 known before, over the whole session.",
        "arithmetic/addition 500 4,500 was 4,500 1,500 was 1,500 3.0 was 3.0 0.0 %",
        "evalgate show runs/v3 arithmetic/addition --sample=sums-0024",
        "evalgate card runs/v3",
    ):
        assert said in text
    assert html.count('<svg class="curve"') == 3
    assert html.count('<svg class="spark"') == 3
    sections = re.findall(r'<section id="(\w+)"', html)
    before, after = ["metrics", "slices", "samples", "judges"], ["training", "tokens", "identity", "statement", "again"]
    assert sections == [*before, "evidence", *after]
    assert re.findall(r'<a href="#(\w+)">', html[: html.index("</nav>")]) == sections


def test_headings_are_in_order(full: CardData) -> None:
    """One first-level heading, and no level is left out on the way down."""
    levels = list(map(int, re.findall(r"<h([1-6])[ >]", render_card(full))))
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_every_column_and_row_has_a_scoped_header(full: CardData) -> None:
    """A table says to a screen reader what it says to the eye, also where a narrow page stacks it."""
    html = render_card(full).partition('<div class="prose">')[0]
    for table in re.findall(r"<table.*?</table>", html, re.DOTALL):
        assert "<caption" in table
        assert all('scope="' in th for th in re.findall(r"<th\b[^>]*>", table))
        assert all('role="' in row for row in re.findall(r"<(?:tr|td|thead|tbody|tfoot)\b[^>]*>", table))


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
        "Gate it again pytest evalsuites/ --model runs/v3",
        "created 2026-11-20 21:04 UTC 2026-11-20 21:04 UTC",
        f"Ledger head {demo.ledger_head}",
        "Generated 2026-11-20T21:05:00+00:00",
    ):
        assert said in text


def test_without_a_baseline_there_is_no_second_side(demo: CardData) -> None:
    """A column of "not stated" would say that there is something, and nobody told of it."""
    alone = shown(render_card(replace(demo, baselines={})))
    assert "Field Candidate name v3" in alone
    assert "Field Candidate Baseline" not in alone
    assert "Field Candidate Baseline name differs v3 v2" in shown(render_card(demo))


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
    assert "versions and platform Field Candidate not stated" in text
    assert "Golden samples none declared" in text
    assert "Pooled" not in text
    assert "undecided" not in text


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_word_a_shape_and_a_sentence(demo: CardData, outcome: Outcome) -> None:
    """No verdict is told by colour alone."""
    html = render_card(replace(demo, family=replace(demo.family, outcome=outcome)))
    assert f'<p class="outcome">{outcome} <span class="gate">' in html
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


def turned(value: Any) -> Any:
    """The same data, every mapping the other way round."""
    if isinstance(value, Mapping):
        return {name: turned(inner) for name, inner in reversed(list(value.items()))}
    return value


def test_the_same_data_make_the_same_bytes(full: CardData) -> None:
    """Nothing in the card depends on when or how often it is rendered, nor on the order in which a record was read."""

    def again(side: Mapping[str, Evaluation]) -> dict[str, Evaluation]:
        return {
            task: replace(
                found,
                checkpoint=turned(found.checkpoint),
                environment=turned(found.environment),
                provenance=turned(found.provenance),
                sampling=turned(found.sampling),
                rows=tuple(replace(row, slices=turned(row.slices), scores=turned(row.scores)) for row in found.rows),
            )
            for task, found in reversed(list(side.items()))
        }

    assert full.lineage
    assert full.lineage.training
    run = replace(full.lineage.training, config=turned(full.lineage.training.config))
    lineage = replace(full.lineage, training=run, environment=turned(full.lineage.environment))
    history = [replace(each, metrics=turned(each.metrics)) for each in full.history]
    shuffled = replace(
        full, lineage=lineage, history=history, candidates=again(full.candidates), baselines=again(full.baselines)
    )
    html = render_card(full)
    assert render_card(full) == html
    assert render_card(shuffled) == html
    assert render_card(replace(full, command="another")) != html


def test_another_process_makes_the_same_bytes(full: CardData, tmp_path: Path) -> None:
    """Not even the seed of Python's hashes is in them."""
    (tmp_path / "data").write_bytes(pickle.dumps(full))
    code = (
        "import hashlib, pickle, sys; from evalgate.report import render_card; "
        "print(hashlib.sha256(render_card(pickle.load(open(sys.argv[1], 'rb'))).encode()).hexdigest())"
    )
    ours = hashlib.sha256(render_card(full).encode()).hexdigest()
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "data"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == ours


def test_a_large_card_is_small(sums_card: Callable[[int], CardData]) -> None:
    """5,000 short samples weigh at most 700 kB; how long that takes is for benchmarks/card.py to say."""
    html = render_card(sums_card(5000))
    assert len(html.encode()) <= 700_000
    assert len(data_of(html)["samples"]) == 5000


def test_samples_are_sorted_into_the_buckets_of_their_comparison(demo: CardData) -> None:
    """Bucket counts are the comparison's, regressed samples come first, and identical outputs are stored once."""
    found = payload("v3", demo.family, demo.candidates, demo.baselines)
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
    found = payload("v3", demo.family, demo.candidates, demo.baselines)
    assert {s["k"][0] for s in found["samples"] if s["a"] == 3} <= set("RFU")


def test_a_row_without_an_answer_has_a_bucket_of_its_own(demo: CardData) -> None:
    """An error is never a score: the sample says why, wherever its score stands."""
    task = "orders/extraction"
    broken = replace(demo.candidates[task].rows[5], error="the engine died", scores={}, outputs=())
    rows = (*demo.candidates[task].rows[:5], broken, *demo.candidates[task].rows[6:])
    candidates = {**demo.candidates, task: replace(demo.candidates[task], rows=rows)}
    found = payload("v3", demo.family, candidates, demo.baselines)
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
    none, one = (s for s in payload("v3", demo.family, candidates, demo.baselines)["samples"] if s.get("e"))
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
    told = [s for s in payload("v3", demo.family, candidates, demo.baselines)["samples"] if s.get("e")]
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
    found = payload("v3", family, demo.candidates, baselines)
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
    found = payload("v3", data.family, data.candidates, data.baselines)
    (verdict,) = data.family.verdicts
    assert verdict.comparison
    assert found["left_out"] == 260
    assert [s["i"] for s in found["samples"] if s["k"][0] == "R"] == sorted(verdict.comparison.broken)[:40]


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
    html = render_card(replace(demo, family=family))
    assert "28 more, none worse than these" in shown(html)
    assert "28 more values, none blocks or is worse than these" in shown(html)
    assert 'class="heat many"' in html
    assert 'class="heat many"' not in render_card(demo)


def test_slices_that_block_are_marked_and_never_left_out(reserve_card: Callable[..., CardData]) -> None:
    """A slice that is gated by itself has its adjusted p beside the level, and stands there however well it did."""
    data = reserve_card("keep")
    text = shown(render_card(data))
    assert "Slice Difference Was → now n q Adjusted p level .025" in text
    assert "-17.0 pt blocks, worse q .00037, n 100 p .00024, level .025" in text
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
    assert "Noise floor 48 baseline prompts of v2 answered again, token-identical (batch invariance off, cpu)" in text
    off = "scheduling: batch invariance off, the last bits of an answer depend on what runs beside it"
    assert f"engine.determinism {off} {off}" in text
    assert "chosen among 5 candidates. 1.5 false alarms are to be expected in 30 runs. Every comparison" in text
    assert "Noise floor not measured" in shown(render_card(demo))
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
        found = payload("v3", data.family, data.candidates, data.baselines)["samples"]
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
    found = {s["i"]: s for s in payload("v3", data.family, data.candidates, data.baselines, data.near_ties)["samples"]}
    assert {i for i, s in found.items() if 0 in s.get("n", ())} == ids
    assert (
        {i for i, s in found.items() if 1 in s.get("n", ())}
        == ids
        <= {*exact.comparison.broken, *exact.comparison.fixed}
    )
    assert {s["m"] for s in found.values() if "n" in s} == {2e-5}
    assert all(s["k"][2] in "RF" for s in found.values() if 2 in s.get("n", ()))  # chrf compares no reserve
    assert not any("n" in s for s in payload("v3", data.family, data.candidates, data.baselines)["samples"])
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
        found = payload("v3", both, data.candidates, data.baselines, ties)["samples"]
        assert next(s["n"] for s in found if s["i"] == id_) == places


def test_the_record_of_a_view_is_the_one_that_was_accepted(demo: CardData) -> None:
    """Scores made anew from stored outputs show the digest of the record they come from."""
    task = "arithmetic/addition"
    again = replace(demo.baselines[task], metrics=(), origin=demo.baselines[task].digest)
    text = shown(render_card(replace(demo, baselines={task: again})))
    assert again.digest not in text
    assert f"record differs {demo.candidates[task].digest} {demo.baselines[task].digest}" in text


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
