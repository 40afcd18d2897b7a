"""Makes the files of this folder: real logs of lm-evaluation-harness and inspect_ai on our own model and data.

    uv venv /tmp/foreign
    uv pip install --python /tmp/foreign/bin/python lm-eval==0.4.13 inspect_ai==0.3.285 peft torch transformers
    /tmp/foreign/bin/python tests/foreign/make.py

Run it from the repository's root. Nothing is downloaded: the models are `fixtures/checkpoints`, the data
`evalsuites/data`. What the tools wrote stays as it is but for what is large or about the machine: lm-eval's
`pretty_env_info` (processor, drivers) is emptied by hand; inspect's events and tracebacks (they show where Python
lies) are dropped with its own reader and writer, so that the files are still its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent.relative_to(Path.cwd())
BIN = Path(sys.executable).parent
V1 = "pretrained=fixtures/checkpoints/v1,dtype=float32"
OFFLINE = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "INSPECT_DISPLAY": "none"}


def lm_eval() -> None:
    """Two models, three tasks: generated text with two filters, multiple choice, rolling log-likelihood."""
    shutil.rmtree(HERE / "lm_eval", ignore_errors=True)
    for model in (V1, f"{V1},peft=fixtures/checkpoints/v3"):
        for tasks, limit in (("sums", "30"), ("reviews,prose", "12")):
            command: list[str | Path] = [
                BIN / "lm_eval",
                "--model",
                "hf",
                "--model_args",
                model,
                "--tasks",
                tasks,
                "--limit",
                limit,
            ]
            command += ["--include_path", HERE / "tasks", "--log_samples", "--output_path", HERE / "lm_eval"]
            run([*command, "--device", "cpu", "--batch_size", "8"])
    for path in (HERE / "lm_eval").rglob("results_*.json"):
        results = json.loads(path.read_text())
        path.write_text(json.dumps(results | {"pretty_env_info": ""}, indent=2, ensure_ascii=False))


def inspect() -> None:
    """Two models with three epochs and two scorers; a log with a broken and an unscored sample; a run that failed."""
    from inspect_ai.log import read_eval_log, write_eval_log

    shutil.rmtree(HERE / "inspect", ignore_errors=True)
    for model in ("v1", "v4-full"):
        command: list[str | Path] = [BIN / "inspect", "eval", HERE / "inspect_tasks.py@chat", "--model", f"hf/{model}"]
        command += ["-M", f"model_path=fixtures/checkpoints/{model}", "-M", "device=cpu", "--no-log-realtime"]
        run([*command, "--log-dir", HERE / "inspect"])
    for form, fragile in (("json", "false"), ("eval", "true")):
        command = [BIN / "inspect", "eval", HERE / "inspect_tasks.py@rough", "--model", "hf/v1", "--no-log-realtime"]
        command += ["-M", "model_path=fixtures/checkpoints/v1", "-M", "device=cpu", "-T", f"fragile={fragile}"]
        run([*command, "--log-format", form, "--log-dir", HERE / "inspect"])
    for path in sorted((HERE / "inspect").iterdir()):
        log = read_eval_log(str(path))
        for part in (log, *(log.samples or [])):
            if part.error:
                part.error.traceback = part.error.traceback_ansi = ""
        for sample in log.samples or []:
            sample.events, sample.events_data, sample.timelines = [], None, None
        path.unlink()
        write_eval_log(log, str(path))


def run(command: list[str | Path]) -> None:
    """One command, offline."""
    subprocess.run([str(part) for part in command], env={**os.environ, **OFFLINE}, check=True)


if __name__ == "__main__":
    for make in [globals()[name] for name in sys.argv[1:]] or [lm_eval, inspect]:
        make()
