"""What a card of many samples weighs, how long it takes to render, and how soon it answers in a real browser.

    python benchmarks/card.py [--samples 1000 10000]          prints a table; about a minute on a core

Made-up samples have outputs of 2,000 characters on both sides: of words, which compress as prose does and differ in one
of twenty, and of random printable characters, which do not compress and have nothing in common. The records of
`make demo` are shown where there are any. Times in Chromium are of a cold start from disk: `first-contentful-paint`,
then until the samples are there, then the longest of four filters, then of three searches (from the key to the list,
of which the wait for the next key is 80 ms).
"""

from __future__ import annotations

import argparse
import shutil
import string
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.table import Table

from evalgate.digest import digest
from evalgate.evaluation import Evaluation, Metric, Row
from evalgate.gate import Gate, Member, Policy, decide
from evalgate.report import CardData, render_card
from evalgate.store import Store, read_baseline

ROOT = Path(__file__).parents[1]
LENGTH = 2_000
EXACT = Metric(name="exact_match", digest=digest("exact_match"), binary=True)
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")

# From an event to the frame after it; whatever is chosen, the line above the samples is written anew.
TIMED = """([act, value]) => new Promise((done) => {
  const began = performance.now(), line = document.getElementById("count");
  new MutationObserver((_, seen) => {
    seen.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
  }).observe(line, { childList: true });
  const control = document.querySelector(act);
  if (value === null) control.click();
  else { control.value = value; control.dispatchEvent(new Event("input", { bubbles: true })); }
})"""
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the table; seconds, but for the file's megabytes."""

    name: str
    samples: int
    render: float
    size: float
    paint: float
    ready: float
    filtered: float
    searched: float


def words(rng: Random) -> Iterator[str]:
    """Words without end, the frequent ones short, as in prose."""
    some = ["".join(rng.choices(string.ascii_lowercase, k=2 + n // 400)) for n in range(4_000)]
    weights = [1 / (n + 5) for n in range(len(some))]
    while True:
        yield from rng.choices(some, weights, k=10_000)


def noise(rng: Random) -> Iterator[str]:
    """Random printable characters in pieces of words' length."""
    while True:
        yield "".join(rng.choices(string.printable[:94], k=6))


def made(n: int, source: Callable[[Random], Iterator[str]], changed: float) -> CardData:
    """A card of so many samples with outputs of `LENGTH` characters on both sides, a share of their words changed."""
    rng = Random(5)
    stream = source(rng)
    was: list[Row] = []
    now: list[Row] = []
    for i in range(n):
        said = [next(stream) for _ in range(LENGTH // 5)]
        again = [next(stream) if rng.random() < changed else word for word in said]
        question = " ".join(next(stream) for _ in range(20))
        for side, tokens, right in ((was, said, rng.random() < 0.8), (now, again, rng.random() < 0.78)):
            side.append(
                Row(
                    id=f"made-{i:05}",
                    pair=str(i),
                    prompt=question,
                    target=said[0],
                    outputs=(" ".join(tokens)[:LENGTH].ljust(LENGTH, "."),),
                    scores={"exact_match": float(right)},
                    slices={"kind": str(i % 7)},
                    finish=("stop",),
                )
            )
    sides = [_evaluation(rows, who) for rows, who in ((was, "v2"), (now, "v3"))]
    return _card({"made/all": sides[1]}, {"made/all": sides[0]})


def _evaluation(rows: list[Row], who: str) -> Evaluation:
    return Evaluation(
        task="made/all",
        checkpoint={"name": who, "digest": digest(who), "identity": {}},
        prompt=digest("prompt"),
        sampling={"max_tokens": 512, "temperature": 0.0},
        seed=0,
        samples=digest("samples"),
        metrics=(EXACT,),
        rows=tuple(rows),
    )


def demo() -> CardData | None:
    """The regressed checkpoint of `make demo` against the committed baselines, if its records are there."""
    found = {e.task: e for e in Store(ROOT / ".evalgate").all() if e.checkpoint["name"] == "v3"}
    paths = sorted((ROOT / "evalsuites/baselines").rglob("*.jsonl"))
    accepted = {e.task: e for e in map(read_baseline, paths) if e}
    tasks = sorted(found.keys() & accepted.keys())
    return _card({t: found[t] for t in tasks}, {t: accepted[t] for t in tasks}) if tasks else None


def _card(candidates: dict[str, Evaluation], baselines: dict[str, Evaluation]) -> CardData:
    members = [
        Member(
            task=task,
            metric=metric.name,
            blocking=place == 0,
            gate=Gate(margin=0.05),
            candidate=candidate,
            baseline=baselines[task],
        )
        for task, candidate in candidates.items()
        for place, metric in enumerate(candidate.metrics)
    ]
    return CardData(
        name="v3",
        family=decide(members, Policy()),
        candidates=candidates,
        baselines=baselines,
        statement=None,
        ledger_head=None,
        command="pytest evalsuites/ --model runs/v3",
        generated="2026-11-20T21:05:00+00:00",
    )


def measured(name: str, data: CardData, browser: Browser, folder: Path) -> Measured:
    """Render a card, open it, use it."""
    for side in (data.candidates, data.baselines):
        assert all(each.digest for each in side.values())  # its cost is the record's, not the card's
    began = time.perf_counter()
    html = render_card(data)
    render = time.perf_counter() - began
    path = folder / "index.html"
    path.write_text(html, "utf-8")
    page = browser.new_page()
    began = time.perf_counter()
    page.goto(path.as_uri(), wait_until="commit")
    page.locator("#list[aria-busy]").wait_for(state="detached", timeout=60_000)
    ready = time.perf_counter() - began
    paint = page.evaluate(PAINTED) / 1000
    filtered = max(_timed(page, f".buckets input[value='{bucket}']", None) for bucket in ("R", "U", "F", ""))
    searched = max(_timed(page, "#query", text) for text in ("no such text", "made-00500", "e"))
    page.close()
    count = sum(len(each.rows) for each in data.candidates.values())
    return Measured(name, count, render, path.stat().st_size / 1e6, paint, ready, filtered, searched)


def _timed(page: Page, control: str, value: str | None) -> float:
    return float(page.evaluate(TIMED, [control, value])) / 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000, 10_000])
    args = parser.parse_args()
    cards: list[tuple[str, Callable[[], CardData | None]]] = [("records of make demo", demo)]
    for n in args.samples:
        cards += [("words", partial(made, n, words, 0.05)), ("noise", partial(made, n, noise, 1.0))]
    table = Table("text", "samples", "render", "file", "first paint", "samples shown", "filter", "search")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        for name, make in cards:
            data = make()
            if data is None:
                continue
            browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
            m = measured(name, data, browser, Path(folder))
            browser.close()
            seconds = (f"{value:.2f} s" for value in (m.paint, m.ready))
            quick = (f"{1000 * value:.0f} ms" for value in (m.filtered, m.searched))
            table.add_row(m.name, f"{m.samples:,}", f"{m.render:.2f} s", f"{m.size:.2f} MB", *seconds, *quick)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
