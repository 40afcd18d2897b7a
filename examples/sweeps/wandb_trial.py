"""One trial of a W&B sweep: pytest as a person types it, then its score into the agent's run.

python examples/sweeps/wandb_trial.py suite/task::metric evalsuites/ --train conf/sft.yaml -- lora.r=8 …
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import wandb

from evalgate.report.results import Results, read_results


def gate(arguments: list[str]) -> Results:
    """Run the gate and read what came out; the agent's run is for this script and not for the trainer."""
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_RUN_ID"}
    with TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        command = [sys.executable, "-m", "pytest", *arguments, "--eval-results", str(results)]
        subprocess.run(command, env=environment, check=False)
        return read_results(results)


def main() -> None:
    """Exit code 0 also for a candidate that is blocked: the trial went well, and W&B shows it as finished."""
    objective, *rest = sys.argv[1:]
    split = rest.index("--")
    chosen = [part for pair in rest[split + 1 :] for part in ("--train-set", pair)]
    results = gate([*rest[:split], *chosen])
    metric = results.candidates[0].metrics.get(objective) if results.candidates else None
    if metric is None or metric.value is None:
        raise SystemExit(results.error or f"{objective} has no score")
    passed = results.verdict == 0
    with wandb.init() as run:
        run.log({"score" if passed else "blocked_score": metric.value, "passed": int(passed)})
        run.summary["version"] = results.candidates[0].folder


if __name__ == "__main__":
    main()
