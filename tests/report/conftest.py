"""A real browser, and cards made of real verdicts over made-up answers."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

from evalgate.digest import digest
from evalgate.evaluation import Acceptance, Evaluation, Metric, Row
from evalgate.gate import Family, Gate, Member, Policy, decide
from evalgate.noise import near_ties
from evalgate.power import Planned, PowerLine, PowerPlan, plan_power
from evalgate.report import CardData, render_card
from evalgate.report.card import Costs
from evalgate.report.past.history import Past, PastMetric, measure_of
from evalgate.scoring import exact_match
from evalgate.version import DataFile, Lineage, Parent, TrainingRun

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
EXACT = Metric(name="exact_match", digest=digest("exact_match"), binary=True)
CHRF = Metric(name="chrf", digest=digest("chrf"), low=0.0, high=100.0)
BITS = Metric(
    name="bits_per_byte",
    digest=digest("bits_per_byte"),
    high=None,
    higher_is_better=False,
    weighted=True,
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """An installed Chromium or Chrome, else playwright's own; there is no card without a browser to try it in."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            launched = playwright.chromium.launch(executable_path=found, args=FLAGS)
        except Error as error:
            why = error.message.splitlines()[0]
            pytest.fail(f"no Chromium starts ({why}): apt-get install chromium", pytrace=False)
        yield launched
        launched.close()


@pytest.fixture
def heard() -> list[str]:
    """What a page said or asked for that it should not have."""
    return []


@pytest.fixture
def visit(browser: Browser, heard: list[str]) -> Iterator[Callable[..., Page]]:
    """Opens a card, with ears for errors and requests, and waits until its samples are there."""
    contexts = []

    def open_card(address: str, without: str | None = None, **options: Any) -> Page:
        desk = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        contexts.append(browser.new_context(**{**desk, **options}))
        if without:
            contexts[-1].add_init_script(f"delete window.{without}")
        page = contexts[-1].new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        own = address.partition("#")[0]
        page.on("request", lambda asked: None if asked.url.startswith(own) else heard.append(asked.url))
        page.goto(address)
        page.locator("#list[aria-busy]").wait_for(state="detached")
        return page

    yield open_card
    for context in contexts:
        context.close()


def evaluation(task: str, rows: Sequence[Row], metrics: Sequence[Metric], *, who: str, **fields: Any) -> Evaluation:
    """An evaluation as the session records it; `who` is the checkpoint's name."""
    seconds = 41 if who == "v3" else 12
    given: dict[str, Any] = {
        "checkpoint": {
            "name": who,
            "digest": digest(who),
            "identity": {
                "kind": "adapter",
                "weights": digest(f"weights {who}"),
                "tokenizer": digest("tokenizer"),
                "template": None,
                "architecture": "LlamaForCausalLM",
                "stop_token_ids": [2],
                "base": digest("base"),
            },
        },
        "prompt": digest(f"prompt {task}"),
        "sampling": {"max_tokens": 16, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "stop": ["\n"], "n": 1},
        "seed": 0,
        "samples": digest(f"samples {task}"),
        "environment": {
            "engine": {
                "name": "vllm",
                "version": "0.32.0",
                "dtype": "float32",
                "device": "cpu",
                "determinism": "scheduling",
            },
            "torch": "2.13.0",
            "platform": "Linux-6.1-x86_64",
        },
        "provenance": {
            "created": f"2026-11-20T21:04:{seconds}+00:00",
            "command": f"pytest evalsuites/ --model runs/{who}",
            "evalgate": "0.1.0",
            "python": "3.11.9",
        },
    }
    return Evaluation(task=task, rows=tuple(rows), metrics=tuple(metrics), **{**given, **fields})


def accepted(by: str = "Ida Moss <ida@example.org>", why: str = "shipped on Monday") -> Acceptance:
    """Who made a record the baseline."""
    return Acceptance(by=by, at="2026-11-02T09:12:00+00:00", why=why, previous=None, anchor=digest("anchor"))


def _sums(rng: random.Random, n: int, *, golden: int) -> tuple[list[Row], list[Row]]:
    """Sums that the candidate does worse with two digits."""
    sides: tuple[list[Row], list[Row]] = ([], [])
    for i in range(n):
        digits = 1 + i % 3
        a, b = (rng.randrange(10 ** (digits - 1), 10**digits) for _ in range(2))
        right, wrong = str(a + b), str(a + b + rng.choice((-10, -1, 1, 10)))
        was = i < golden or rng.random() < 0.92
        now = (was and rng.random() > (0.19 if digits == 2 else 0.02)) or (not was and rng.random() < 0.25)
        for side, good in zip(sides, (was, now), strict=True):
            answer = right if good else wrong
            side.append(
                Row(
                    id=f"sums-{i:04}",
                    pair=digest([a, b]),
                    prompt=f"Q: {a}+{b}=\nA:",
                    target=right,
                    outputs=(f" {answer}",),
                    scores={"exact_match": float(good), "chrf": 100.0 if good else 100.0 * (len(answer) - 1) / 4},
                    slices={"digits": str(digits), "carry": "yes" if a % 10 + b % 10 > 9 else "no"},
                    finish=("stop",),
                    tokens=(9, 3),
                )
            )
    return sides


ITEMS = ("figs", "eggs", "lemons", "walnuts", "grapes", "dates")


def _orders(rng: random.Random, n: int) -> tuple[list[Row], list[Row]]:
    """Orders as JSON, which the candidate has learned."""
    sides: tuple[list[Row], list[Row]] = ([], [])
    for i in range(n):
        count, item, phrasing = rng.randrange(2, 40), rng.choice(ITEMS), rng.choice(("plain", "polite"))
        was = rng.random() < 0.86
        now = (was and rng.random() > 0.01) or rng.random() < 0.6
        for side, good in zip(sides, (was, now), strict=True):
            told = {"items": [{"qty": count if good else count + 1, "item": item}]}
            side.append(
                Row(
                    id=f"orders-{i:04}",
                    pair=digest([i, count, item]),
                    prompt=f"Write as JSON: {'please bring' if phrasing == 'polite' else 'we need'} {count} {item}",
                    target={"items": [{"qty": count, "item": item}]},
                    outputs=(str(told).replace("'", '"'),),
                    scores={"exact_match": float(good)},
                    notes={} if good else {"exact_match": f"qty is {count + 1}, expected {count}"},
                    slices={"phrasing": phrasing},
                    finish=("stop" if good else "length",),
                )
            )
    return sides


def _facts(rng: random.Random, n: int) -> tuple[list[Row], list[Row]]:
    """Questions about documents: few, and three to a document."""
    sides: tuple[list[Row], list[Row]] = ([], [])
    for i in range(n):
        item, rack = rng.choice(ITEMS), rng.choice("WHSK")
        was, now = rng.random() < 0.7, rng.random() < 0.68
        document = "Stock: " + ", ".join(f"rack {r}: {rng.choice(ITEMS)}" for r in "ABCDEFGH" * (1 + 4 * (i == 7)))
        for side, good in zip(sides, (was, now), strict=True):
            side.append(
                Row(
                    id=f"facts-{i:04}",
                    pair=digest([i, item]),
                    prompt=f"{document}, rack {rack}: {item}.\nQuestion: what is on rack {rack}?",
                    target=item,
                    outputs=(item if good else "I could not find that rack in the document, sorry",),
                    scores={"exact_match": float(good)},
                    slices={"rack": rack},
                    cluster=f"stock-{i // 3:03}",
                    finish=("stop",),
                )
            )
    return sides


def _prose(rng: random.Random, n: int) -> tuple[list[Row], list[Row]]:
    """Held-out text, scored by bits per byte."""
    sides: tuple[list[Row], list[Row]] = ([], [])
    for i in range(n):
        text = f"By Tuesday the {rng.choice(ITEMS)} were gone, and the street was quiet."
        was = rng.gauss(1.31, 0.12)
        for side, bits in zip(sides, (was, was + rng.gauss(-0.01, 0.02)), strict=True):
            side.append(
                Row(
                    id=f"prose-{i:04}",
                    pair=digest([i]),
                    prompt="",
                    target=text,
                    outputs=(),
                    scores={"bits_per_byte": bits},
                    weight=float(len(text)),
                    finish=("score",),
                )
            )
    return sides


@pytest.fixture(scope="session")
def demo() -> CardData:
    """A candidate that learned orders and forgot some sums, with every kind of verdict but an error."""
    rng = random.Random(7)
    sums, orders, facts, prose = _sums(rng, 500, golden=2), _orders(rng, 400), _facts(rng, 45), _prose(rng, 120)
    chat = [
        Row(
            id=f"chat-{i:04}",
            pair=digest([i]),
            prompt="<|user|>Hi! Who are you?<|assistant|>",
            target="the shop",
            outputs=("I am the shop's assistant.",),
            scores={"exact_match": float(i % 2)},
            finish=("stop",),
        )
        for i in range(30)
    ]
    policy = {"golden": ["sums-0000", "sums-0001"], "gates": {"exact_match": {"margin": 0.02, "floor": 0.8}}}
    old = {"environment": {"engine": {"name": "vllm", "version": "0.31.0", "dtype": "float32", "device": "cpu"}}}
    tasks: list[tuple[str, tuple[list[Row], list[Row]], tuple[Metric, ...], float, dict[str, Any], dict[str, Any]]] = [
        ("arithmetic/addition", sums, (EXACT, CHRF), 0.02, {"policy": policy}, {}),
        ("orders/extraction", orders, (EXACT,), 0.02, {}, old),
        ("facts/lookup", facts, (EXACT,), 0.05, {}, {}),
        ("prose/heldout", prose, (BITS,), 0.01, {}, {}),
    ]
    candidates = {
        task: evaluation(task, rows[1], metrics, who="v3", **more) for task, rows, metrics, _, more, _ in tasks
    }
    baselines = {
        task: evaluation(task, rows[0], metrics, who="v2", acceptance=accepted(), **more)
        for task, rows, metrics, _, _, more in tasks
    }
    candidates["chat/identity"] = evaluation("chat/identity", chat, (EXACT,), who="v3")
    margins = {task: margin for task, _, _, margin, _, _ in tasks}
    members = [
        Member(
            task=task,
            metric=metric.name,
            blocking=place == 0,
            gate=Gate(margin=margins.get(task)),
            golden=tuple(candidate.policy.get("golden", ())),
            candidate=candidate,
            baseline=baselines.get(task),
        )
        for task, candidate in candidates.items()
        for place, metric in enumerate(candidate.metrics)
    ]
    members.append(Member(task="reviews/sentiment", metric="exact_match", blocking=True, gate=Gate(), ran=False))
    return card(decide(members, Policy()), candidates, baselines)


JUDGE = {
    "kind": "native",
    "models": [{"name": "tiny", "model": "judge-v1", "weights": digest("w"), "engine": {}, "digest": digest("tiny")}],
    "versions": {},
    "settings": {"rubric": "Is it what was asked for?", "scale": {"1": "no", "2": "yes"}},
    "kappa": 0.934,
    "labels": 1200,
}


def judged_by(side: Evaluation, described: dict[str, Any]) -> Evaluation:
    """An evaluation whose first metric a judge gave."""
    first, *others = side.metrics
    environment = {**side.environment, "judges": {first.name: described}}
    return replace(side, metrics=(replace(first, judge=digest("it")), *others), environment=environment)


def past(demo: CardData, versions: int = 5) -> tuple[Past, ...]:
    """Earlier versions of the demo's tasks; before the last three, sums were asked otherwise."""
    rng = random.Random(3)
    found = []
    for i in range(versions):
        metrics = {}
        for verdict in demo.family.verdicts[:4]:
            same = i >= versions - 3 or not verdict.task.startswith("arithmetic")
            measure = measure_of(demo.candidates[verdict.task].identity, verdict.metric) if same else "otherwise"
            value = (verdict.value or 0.0) * (0.86 + 0.03 * i + rng.uniform(-0.03, 0.03))
            metrics[f"{verdict.task}::{verdict.metric}"] = PastMetric(
                "PASS", blocking=True, value=value, measure=measure
            )
        at = f"2026-10-{i + 1:02}T09:00:00+00:00"
        found.append(Past(f"v{i - 3}", digest(i), "PASS", blocked=False, reason="", at=at, metrics=metrics))
    return tuple(found)


LINEAGE = Lineage(
    name="v3",
    digest=digest("v3"),
    kind="adapter",
    files={},
    created="2026-11-19T22:10:00+00:00",
    parent=Parent("v2", "runs/v2", digest("v2")),
    epoch=2.0,
    step=1200,
    training=TrainingRun(
        key=digest("key"),
        config={"lora": {"r": 8, "alpha": 16}, "optim": {"lr": 2e-4}, "publishing": {"runs": "runs"}},
        data=(
            DataFile("data/orders.jsonl", digest("o"), 18_400, 17_950, "messages", ("shuffled with seed 0", "packed")),
            DataFile("data/subtraction.jsonl", digest("s"), 2_000, 2_000, "prompt-completion"),
        ),
        data_digest=digest("rows"),
        losses=tuple(0.4 + 2 * 0.995**i + 0.05 * (i % 7) / 7 for i in range(1200)),
        grad_norms=tuple(None if i == 3 else 1.5 + (i % 11) / 10 + 20 / (i + 5) for i in range(1200)),
        learning_rates=tuple(2e-4 * min(i / 60, (1200 - i) / 1140) for i in range(1200)),
        held_out_loss=0.61,
        seconds=3725.4,
        overrides=("lora.r=8",),
        config_file="conf/sft.yaml",
        leaked={"facts/lookup": ("facts-0003",)},
    ),
    code={"commit": "4b1d0c7", "dirty": False, "diff": None},
    environment={"torch": "2.13.0", "python": "3.11.9", "gpu": {"name": "NVIDIA H100"}},
    why="Customers ask for differences, and v2 cannot subtract",
    hypothesis="Subtraction improves, addition and orders stay",
    command="pytest --train conf/sft.yaml",
)


@pytest.fixture(scope="session")
def full(demo: CardData) -> CardData:
    """The demo with whatever a card can show: history, power, costs, training, a judge on either side, noise."""
    members = [
        Planned(
            task=verdict.task,
            scorer=exact_match(gate=Gate(margin=0.02)),
            n=verdict.comparison.test.n,
            baseline=verdict.comparison.baseline,
        )
        for verdict in demo.family.verdicts
        if verdict.comparison and verdict.metric == "exact_match"
    ]
    task = "orders/extraction"
    family = replace(
        demo.family,
        verdicts=tuple(
            replace(
                v, spec=replace(v.spec, judge=digest("it")), asides=("answers are 31 % longer than the baseline's",)
            )
            if v.spec and v.task == task
            else v
            for v in demo.family.verdicts
        ),
    )
    return replace(
        demo,
        family=family,
        candidates={**demo.candidates, task: judged_by(demo.candidates[task], JUDGE)},
        baselines={**demo.baselines, task: judged_by(demo.baselines[task], JUDGE)},
        history=past(demo),
        power=plan_power(members, Policy(), steps=5),
        costs=Costs(generated=1040, cached=455, seconds=83.4),
        lineage=LINEAGE,
        folder="runs/v3",
        noise=NOISE,
        lines=LINES,
    )


STATEMENT = """# Shop assistant

Answers customers of a small grocery and turns orders into **JSON**.

## Intended use

Drafts for a person at the counter. *Not* for medical or legal questions.

| data | rows | licence |
|---|---|---|
| orders, 2024 to 2026 | 18,400 | in-house |

- English only
- prices are never stated
"""


def card(
    family: Family, candidates: dict[str, Evaluation], baselines: dict[str, Evaluation], **fields: Any
) -> CardData:
    """A card's data around a family."""
    given: dict[str, Any] = {
        "name": "v3",
        "statement": STATEMENT,
        "ledger_head": digest("ledger"),
        "command": "pytest evalsuites/ --model runs/v3",
        "generated": "2026-11-20T21:05:00+00:00",
    }
    return CardData(family=family, candidates=candidates, baselines=baselines, **{**given, **fields})


NOISE = "noise floor: 48 baseline prompts of v2 answered again, token-identical (batch invariance off, cpu)"
LINES = ("sums/all: the baseline was chosen among 5 candidates.", "1.5 false alarms are to be expected in 30 runs.")


@pytest.fixture(scope="session")
def reserve_card() -> Callable[..., CardData]:
    """A card of 500 sums, the last 200 of them from the reserve, with a slice that blocks and a measured noise floor.

    Every fourth answer was decided by less than the noise; two scorers of which the second informs.
    """

    def make(reserve: str, blocking_slice: str = "digits") -> CardData:
        was, now = (
            evaluation(
                "sums/all",
                [
                    replace(row, look=max(0, i // 100 - 2), margin=2e-5 if i % 4 == 0 else 0.7)
                    for i, row in enumerate(rows)
                ],
                (EXACT, CHRF),
                who=who,
            )
            for rows, who in zip(_sums(random.Random(7), 500, golden=0), ("v2", "v3"), strict=True)
        )
        members = [
            Member(
                task="sums/all",
                metric=metric.name,
                blocking=metric is EXACT,
                gate=Gate(margin=0.02),
                blocking_slices=(blocking_slice,),
                last_look=2,
                candidate=now,
                baseline=was,
            )
            for metric in (EXACT, CHRF)
        ]
        ties = {f"sums/all::{metric.name}": near_ties(now, was, 1e-4, metric.name) for metric in (EXACT, CHRF)}
        family = decide(members, Policy(reserve=reserve))
        return card(family, {"sums/all": now}, {"sums/all": was}, noise=NOISE, lines=LINES, near_ties=ties)

    return make


@pytest.fixture(scope="session")
def sums_card() -> Callable[[int], CardData]:
    """A card of one task with so many samples."""

    def make(n: int) -> CardData:
        was, now = (
            evaluation("sums/all", rows, (EXACT,), who=who)
            for rows, who in zip(_sums(random.Random(1), n, golden=0), ("v2", "v3"), strict=True)
        )
        member = Member(
            task="sums/all", metric="exact_match", blocking=True, gate=Gate(margin=0.02), candidate=now, baseline=was
        )
        return card(decide([member], Policy()), {"sums/all": now}, {"sums/all": was})

    return make


def hostile_members(text: str) -> list[Member]:
    """Members that have one text in every field that anybody but us writes: compared, broken, new, lost, not run."""
    metric = Metric(name=text, digest=text, binary=True, judge=text)
    model = {"name": text, "model": text, "weights": text, "engine": {text: text}, "digest": text}
    settings = {"rubric": text, text: text}
    judge = {"kind": text, "models": [model], "versions": {text: text}, "settings": settings, "kappa": None}

    def side(who: str, good: int, *, task: str, error: bool) -> Evaluation:
        rows = [
            Row(
                id=f"{text} {i}",
                pair=str(i),
                prompt=text,
                target=text if i % 2 else {text: [text]},
                outputs=(f"{text} {who}" if i < 3 else text, text),
                scores={} if error and i == 0 else {text: float(i != good)},
                notes={text: f"{text} {who}"},
                slices={text: text},
                cluster=None if i % 2 else text,
                finish=("length",),
                error=text if error and i == 0 else None,
            )
            for i in range(ROWS)
        ]
        return evaluation(
            task,
            rows,
            (metric,),
            who=f"{text} {who}",
            prompt=text,
            samples=text,
            environment={
                "engine": {"name": text, "version": text, text: text, "dtype": who},
                text: text,
                "judges": {text: judge},
            },
            provenance={"command": text, text: text},
            policy={"golden": [f"{text} 1"], "gates": {text: {"margin": 0.1}}},
            acceptance=accepted(by=text, why=text) if who == "was" else None,
        )

    tasks = (text, f"{text} broken", f"{text} new")
    compared = [
        Member(
            task=task,
            metric=text,
            blocking=True,
            gate=Gate(),
            golden=(f"{text} 1",),
            blocking_slices=(text,),
            asides=(text,),
            candidate=side("now", 1, task=task, error=task == tasks[1]),
            baseline=None if task == tasks[2] else side("was", 2, task=task, error=False),
        )
        for task in tasks
    ]
    return [
        *compared,
        Member(task=f"{text} lost", metric=text, blocking=True, gate=Gate(), error=text),
        Member(task=text, metric=f"{text} not run", blocking=True, gate=Gate(), ran=False),
    ]


ROWS = 5  # of each of three evaluations


def past_saying(member: Member, text: str) -> Past:
    """A version before a hostile member's, measured like it, with one text in every field."""
    assert member.candidate
    measure = measure_of(member.candidate.identity, member.metric)
    metric = PastMetric(text, blocking=True, value=0.5, measure=measure)
    return Past(
        name=text,
        digest=text,
        outcome=text,
        blocked=True,
        reason=text,
        at=text,
        metrics={f"{member.task}::{member.metric}": metric},
        partial=(text,),
        aliases=(text,),
        card=text,
    )


def power_saying(texts: Sequence[str]) -> PowerPlan:
    """A power plan whose tasks and metrics have hostile names."""
    lines = [
        PowerLine(
            task=text,
            metric=Metric(name=text, digest=text),
            n=5,
            clusters=3,
            min_n=30,
            level=0.05,
            psi=0.2,
            sd=None,
            deff=1.0,
            source="assumed",
            margin=0.05,
            baseline=0.5,
            detectable=0.3,
            needed=100,
        )
        for text in texts
    ]
    return PowerPlan(lines=tuple(lines), steps=1, alpha=0.05, level=0.05, power=0.8)


def lineage_saying(said: str) -> Lineage:
    """A lineage with one text wherever a version's author may write one."""
    run = TrainingRun(
        key=said,
        config={said: {said: said}, "publishing": {"runs": said}},
        data=(DataFile(said, said, 3, 2, said, (said,)),),
        data_digest=said,
        losses=(2.0, 1.0, 0.5),
        grad_norms=(None, 2.0, 1.0),
        learning_rates=(1e-4, 5e-5, 0.0),
        held_out_loss=0.75,
        overrides=(said,),
        config_file=said,
        leaked={said: (said,)},
    )
    return Lineage(
        name=said,
        digest=said,
        kind=said,
        files={},
        created=said,
        parent=Parent(said, said, said),
        epoch=1.5,
        step=3,
        training=run,
        code={"commit": said, "dirty": True, "diff": said},
        environment={said: {said: said}},
        why=said,
        hypothesis=said,
        command=said,
    )


@pytest.fixture(scope="session")
def hostile_card() -> Callable[..., CardData]:
    """A card that has texts in every field that anybody but us writes; made once for whoever asks for the same."""

    @cache
    def make(*texts: str, kinds: int = 5) -> CardData:
        members = [member for text in texts for member in hostile_members(text)[:kinds]]
        every = "\n\n".join(texts)
        parts = (f"# {t}\n\n{t}\n\n- {t}\n\n| {t} |\n|---|\n| {t} |\n\n> {t}\n\n```\n{t}\n```" for t in texts)
        return card(
            decide(members, Policy()),
            {member.task: member.candidate for member in members if member.candidate},
            {member.task: member.baseline for member in members if member.baseline},
            name=every,
            statement="\n\n".join(parts),
            ledger_head=every,
            command=every,
            generated=every,
            noise=every,
            lines=texts,
            lineage=lineage_saying(every),
            folder=every,
            power=power_saying(texts),
            statements=texts,
            history=[past_saying(member, member.metric) for member in members if member.candidate],
            near_ties={f"{m.task}::{m.metric}": tuple(r.id for r in m.candidate.rows) for m in members if m.candidate},
        )

    return make


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[[str], str]:
    """Writes HTML to a file and gives its address."""

    def make(html: str) -> str:
        path = tmp_path / "index.html"
        path.write_text(html, "utf-8")
        return path.as_uri()

    return make


def write_card(data: CardData, folder: Path) -> Path:
    """A card's page as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    page.write_text(render_card(data), "utf-8")
    return page
