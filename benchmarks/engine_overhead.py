"""What the engine stage costs over raw vLLM, against transformers, and for four checkpoints in one call.

    python benchmarks/engine_overhead.py            prints three tables; about four minutes on two cores

All engines answer the prompts of the evalsuites (sums, sorting, refusals) on the tiny model of fixtures/checkpoints,
after their start-up, in alternating repeats; the tables show medians. Raw vLLM is `LLM.generate` over the same texts
in a child of its own, with the settings and environment that evalgate uses; only evalgate asks for margins.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from evalgate.checkpoint import Checkpoint
from evalgate.engines import EngineProcess, EngineSettings
from evalgate.engines.environment import child_environment
from evalgate.preflight import read_checkpoint
from evalgate.request import Request

ROOT = Path(__file__).parents[1]

RAW = """
import json, os, sys, time
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
from vllm import LLM, SamplingParams
task = json.loads(sys.stdin.readline())
llm = LLM(task["model"], seed=0, generation_config="vllm", load_format="safetensors", dtype="float32",
          enforce_eager=True, block_size=32, kv_cache_memory_bytes=1 << 30)
params = SamplingParams(temperature=0, max_tokens=task["max_tokens"], ignore_eos=True, stop_token_ids=task["stop"])
answers.write("ready\\n")
for line in sys.stdin:
    begun = time.perf_counter()
    llm.reset_prefix_cache()
    outputs = llm.generate(task["prompts"], params, use_tqdm=False)
    seconds = time.perf_counter() - begun
    answers.write(json.dumps([seconds, [output.outputs[0].text for output in outputs]]) + "\\n")
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--fallback-prompts", type=int, default=200)
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        folder, logs = ROOT / "fixtures" / "checkpoints", Path(scratch)
        base = read_checkpoint(folder / "v1")
        adapters = [read_checkpoint(folder / name) for name in ("v2", "v3")]
        four = [base, *adapters, read_checkpoint(folder / "v4-full")]
        prompts = evalsuite_prompts()
        overhead(console, logs, base, prompts, options.max_tokens, options.repeats)
        versus_transformers(
            console, logs, base, prompts[:: max(1, len(prompts) // options.fallback_prompts)], options.max_tokens
        )
        one_call(console, logs, four, prompts[::2], options.max_tokens)


def evalsuite_prompts() -> list[str]:
    """As the suites render them, mixed."""
    patterns = {"sums": "Q: {a}+{b}=\nA:", "sorting": "Sort: {numbers}\nA:", "refusals": "Customer: {text}\nShop:"}
    found = []
    for name, pattern in patterns.items():
        lines = (ROOT / "evalsuites" / "data" / f"{name}.jsonl").read_text("utf-8").splitlines()
        found += [pattern.format(**json.loads(line)) for line in lines]
    return sorted(found, key=len)


def timed(engine: EngineProcess, asked: list[Request]) -> tuple[float, list[str]]:
    """Seconds until the last answer, and the texts in the order asked."""
    begun = time.perf_counter()
    texts = {completion.request: completion.text for completion in engine.generate(asked)}
    return time.perf_counter() - begun, [texts[request.id] for request in asked]


def overhead(console: Console, logs: Path, base: Checkpoint, prompts: list[str], max_tokens: int, repeats: int) -> None:
    """Raw LLM.generate against evalgate's engine stage, both warm, in turns."""
    asked = [Request(base.digest, prompt, max_tokens=max_tokens) for prompt in prompts]
    settings = EngineSettings(name="vllm", log_dir=logs)
    command = [sys.executable, "-c", RAW]
    with (
        EngineProcess(settings, [base]) as engine,
        (logs / "raw.log").open("w") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=child_environment("cpu")
        ) as raw,
    ):
        assert raw.stdin is not None
        assert raw.stdout is not None
        task = {"model": base.path, "prompts": prompts, "max_tokens": max_tokens, "stop": base.stop_token_ids}
        raw.stdin.write(json.dumps(task) + "\n")
        raw.stdin.flush()
        assert raw.stdout.readline() == "ready\n"
        pairs: list[tuple[float, float]] = []
        same = 0
        for number in range(repeats + 1):
            raw.stdin.write("go\n")
            raw.stdin.flush()
            seconds, raw_texts = json.loads(raw.stdout.readline())
            ours, texts = timed(engine, asked)
            if number:  # the first turn warms both up
                pairs.append((seconds, ours))
            same = sum(a == b for a, b in zip(raw_texts, texts, strict=True))
        raw.stdin.close()
    raw_median, our_median = (median(pair[side] for pair in pairs) for side in (0, 1))
    table = Table("", "raw LLM.generate", "evalgate engine", "ratio", title=f"{len(prompts)} prompts, {_machine()}")
    for number, (one, two) in enumerate(pairs, 1):
        table.add_row(f"repeat {number}", f"{one:.2f} s", f"{two:.2f} s", f"{two / one:.2f}")
    ratio = median(two / one for one, two in pairs)  # of neighbours in time, so that a busy machine weighs on both
    table.add_row("median", f"{raw_median:.2f} s", f"{our_median:.2f} s", f"{ratio:.2f}", style="bold")
    console.print(table, f"identical texts: {same} of {len(prompts)}")


def versus_transformers(console: Console, logs: Path, base: Checkpoint, prompts: list[str], max_tokens: int) -> None:
    """The two engines on the same requests, warm."""
    asked = [Request(base.digest, prompt, max_tokens=max_tokens) for prompt in prompts]
    table = Table("engine", "seconds", "requests/s", title=f"{len(prompts)} prompts")
    texts: list[list[str]] = []
    for name in ("vllm", "transformers"):
        with EngineProcess(EngineSettings(name=name, log_dir=logs), [base]) as engine:
            timed(engine, asked[:20])
            seconds, said = timed(engine, asked)
        texts.append(said)
        table.add_row(name, f"{seconds:.2f}", f"{len(prompts) / seconds:.0f}")
    same = sum(a == b for a, b in zip(*texts, strict=True))
    console.print(table, f"identical texts: {same} of {len(prompts)}")


def one_call(console: Console, logs: Path, four: list[Checkpoint], prompts: list[str], max_tokens: int) -> None:
    """One checkpoint against four in one call, start-up included: what a person waits for."""
    table = Table("checkpoints", "requests", "seconds", title="start-up included")
    waited: dict[int, float] = {}
    for members in (four[:1], four):
        asked = [Request(one.digest, prompt, max_tokens=max_tokens) for prompt in prompts for one in members]
        with EngineProcess(EngineSettings(name="vllm", log_dir=logs), members) as engine:
            waited[len(members)], _ = timed(engine, asked)
        table.add_row(", ".join(one.name for one in members), str(len(asked)), f"{waited[len(members)]:.1f}")
    console.print(table, f"four cost {waited[4] / waited[1]:.2f} times one")


def _machine() -> str:
    return f"{len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    main()
