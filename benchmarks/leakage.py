"""Which planted copies of eval samples the leakage check finds, and what it says of clean training text.

    python benchmarks/leakage.py [--rows 10000] [--seeds 3]          prints two tables; about half a minute on a core

Training text is the fixture shop's, which never asks a held-out question, together with every other paragraph of the
project's own pages; eval sets are those of evalsuites/ and the paragraphs between. One sample in five is planted, as it
is or with a few of its words replaced, dropped, swapped with the next, or a word added, all drawn from its own set.
The second table counts, in training text without any copy, what is reported nevertheless.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from fixtures.shop import training_examples
from rich.console import Console
from rich.table import Table

from evalgate.leakage import LONG, EvalText, Leaks, find_leaks, words

ROOT = Path(__file__).parents[1]
PROMPTS = {
    "sums": "Q: {a}+{b}=\nA: {target}",
    "sorting": "Sort: {numbers}\nA: {target}",
    "sorting_reserve": "Sort: {numbers}\nA: {target}",
    "facts": "{document}\nQ: {question}\nA: {target}",
    "orders": "Order: {text}\nJSON: {target}",
    "reviews": "Review: {text}\nLabel (P/N/M): {target}",
    "refusals": "Customer: {text}\nShop: {target}",
    "chat": "{message}\n{target}",
    "prose": "{target}",
}
MIX = {"sums": 4, "sorting": 2, "facts": 4, "plain_orders": 2, "casual_orders": 3, "reviews": 2, "refusals": 1}
MIX |= {"prose": 4, "chat": 4}
Row = tuple[str, str]


def paragraphs() -> list[str]:
    """What people wrote on the project's pages."""
    pages = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    found = (part for page in pages for part in page.read_text("utf-8").split("\n\n"))
    return [part for part in found if len(words(part)) >= LONG and "|" not in part and "```" not in part]


def eval_sets() -> dict[str, list[EvalText]]:
    """The fixture's eval sets as a leaked copy would hold them, and every other paragraph."""
    sets = {name: [_text(row, prompt) for row in _rows(name)] for name, prompt in PROMPTS.items()}
    return sets | {"pages": [EvalText(f"p{n}", said) for n, said in enumerate(paragraphs()[::2])]}


def _rows(name: str) -> Iterator[dict[str, Any]]:
    with (ROOT / f"evalsuites/data/{name}.jsonl").open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _text(row: dict[str, Any], prompt: str) -> EvalText:
    target = row["target"] if isinstance(row["target"], str) else json.dumps(row["target"])
    return EvalText(row["id"], prompt.format(**row | {"target": target}), row.get("document_id"))


def clean_rows(rows: int, seed: int) -> list[Row]:
    """Training text without a held-out question."""
    examples = islice(training_examples(seed, MIX), rows)
    shop = [f"{each.prompt}\n{each.completion}" if each.chat else each.prompt + each.completion for each in examples]
    return [(f"train.jsonl:{n}", said) for n, said in enumerate([*shop, *paragraphs()[1::2]], start=1)]


def edited(said: Sequence[str], edits: int, vocabulary: Sequence[str], rng: Random) -> list[str]:
    """The words after so many small edits, at different places as long as there are some."""
    said = list(said)
    for place in sorted(rng.sample(range(len(said)), min(edits, len(said))), reverse=True):
        match rng.choice(("replace", "drop", "add", "swap")):
            case "replace":
                said[place] = rng.choice(vocabulary)
            case "drop":
                del said[place]
            case "add":
                said.insert(place, rng.choice(vocabulary))
            case _:
                said[place : place + 2] = said[place : place + 2][::-1]
    return said


def planted(sets: dict[str, list[EvalText]], edits: int, seed: int) -> dict[str, dict[str, str]]:
    """By set, one sample in five with so many edits: id to text."""
    rng, found = Random(seed), {}
    for name, texts in sets.items():
        vocabulary = sorted({word for each in texts for word in words(each.text)})
        chosen = rng.sample(texts, len(texts) // 5)
        found[name] = {each.id: " ".join(edited(words(each.text), edits, vocabulary, rng)) for each in chosen}
    return found


def recall(sets: dict[str, list[EvalText]], clean: Sequence[Row], edits: int, seed: int) -> dict[str, float]:
    """By set, the share of planted samples that are reported, with their own row among those named."""
    copies = planted(sets, edits, seed)
    rows = [*clean, *((f"planted:{id_}", said) for each in copies.values() for id_, said in each.items())]
    leaks = find_leaks(rows, sets)
    return {
        name: sum(f"planted:{leak.id}" in leak.rows for leak in leaks.found[name]) / len(ids)
        for name, ids in copies.items()
    }


def timed(sets: dict[str, list[EvalText]], clean: Sequence[Row]) -> tuple[Leaks, float]:
    """What is reported on clean text, and the seconds of processor time it took."""
    begun = time.process_time()
    return find_leaks(clean, sets), time.process_time() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    console, sets = Console(), eval_sets()
    clean = {seed: clean_rows(options.rows, seed) for seed in range(options.seeds)}
    found = {edits: [recall(sets, rows, edits, seed) for seed, rows in clean.items()] for edits in range(4)}
    table = Table("eval set", "samples", "words", "as it is", "1 edit", "2 edits", "3 edits", title="planted and found")
    for name, texts in sets.items():
        sizes = sorted(len(words(each.text)) for each in texts)
        shares = [sum(each[name] for each in found[edits]) / len(clean) for edits in range(4)]
        table.add_row(name, str(len(texts)), f"{sizes[0]}-{sizes[-1]}", *(f"{share:.0%}" for share in shares))
    console.print(table)
    table = Table("seed", "rows", "reported of", "share", "sets", "CPU seconds", title="clean training text")
    for seed, rows in clean.items():
        leaks, seconds = timed(sets, rows)
        reported, samples = sum(map(len, leaks.ids.values())), sum(leaks.samples.values())
        named = ", ".join(f"{name} {len(ids)}" for name, ids in leaks.ids.items())
        numbers = f"{reported} of {samples:,}", f"{reported / samples:.2%}", named, f"{seconds:.1f}"
        table.add_row(str(seed), f"{len(rows):,}", *numbers)
    console.print(table)


if __name__ == "__main__":
    main()
