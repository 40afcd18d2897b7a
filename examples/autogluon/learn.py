"""Which metric scores predict what people say: AutoGluon learns it from records of evalgate and people's labels.

python examples/autogluon/learn.py RECORDS LABELS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from evalgate.store import read_records

VERDICT = "verdict"
HELD_OUT = 0.4
MODELS = {name: {} for name in ("GBM", "RF", "XT")}  # trees are enough for some columns of scores, and need no torch


def labelled_scores(records: str, labels: Path) -> pd.DataFrame:
    """One row per answer that people labelled: a column per metric, and `verdict`, 1 for right and 0 for wrong.

    Args:
        records: folder of recorded evaluations with the same metrics, such as `.evalgate/records/v3-…/shop`.
        labels: JSON Lines of `id`, `output` (the answer's text, since a sample has one of each checkpoint) and `label`,
            1 or 0.
    """
    people = pd.DataFrame([json.loads(line) for line in labels.read_text("utf-8").splitlines() if line.strip()])
    found = read_records(records)
    scores = pd.concat([evaluation.frame for evaluation in found], ignore_index=True)
    metrics = [metric.name for metric in found[0].metrics]
    joined = scores.merge(people, on=["id", "output"], how="inner", validate="one_to_one")
    if joined.empty:
        raise SystemExit("no label is of an answer in the records: id and output must be those that were recorded")
    unknown = [metric for metric in metrics if joined[metric].isna().any()]
    if unknown:
        raise SystemExit(f"answers without a score of {', '.join(unknown)}: an error is no score, run them again")
    return joined[metrics].assign(**{VERDICT: joined["label"].astype(int)})


def split(frame: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answers to learn from and answers held out, shuffled."""
    shuffled = frame.sample(frac=1, random_state=seed)
    held_out = round(len(frame) * HELD_OUT)
    return shuffled.iloc[held_out:], shuffled.iloc[:held_out]


def best_single(train: pd.DataFrame, held_out: pd.DataFrame) -> tuple[str, float, float]:
    """The metric and threshold that agree best with people where we may learn, and how often they do where not."""
    _, metric, threshold = max(
        (float(((train[metric] > threshold) == train[VERDICT]).mean()), metric, float(threshold))
        for metric in train.columns.drop(VERDICT)
        for threshold in train[metric].unique()
    )
    return metric, threshold, float(((held_out[metric] > threshold) == held_out[VERDICT]).mean())


def main() -> None:
    """Print what was learned, and what it is worth on answers that nothing was learned from."""
    from autogluon.tabular import TabularPredictor

    records, labels = sys.argv[1], Path(sys.argv[2])
    train, held_out = split(labelled_scores(records, labels))
    with TemporaryDirectory() as folder:
        predictor = TabularPredictor(VERDICT, path=folder, eval_metric="accuracy", verbosity=0)
        predictor.fit(train, hyperparameters=MODELS, time_limit=120, num_gpus=0)
        accuracy = predictor.evaluate(held_out)["accuracy"]
        importance = predictor.feature_importance(held_out, num_shuffle_sets=20, silent=True)
    metric, threshold, alone = best_single(train, held_out)
    print(f"{len(train)} answers to learn from, {len(held_out)} held out, {held_out[VERDICT].mean():.1%} of them right")
    print(f"all metrics together agree with people on {accuracy:.1%}")
    print(f"{metric} > {threshold:.3g} alone agrees on {alone:.1%}, the best single one")
    print("what accuracy loses without each:")
    for name, row in importance.iterrows():
        print(f"  {name:16} {row['importance']:+.3f} ± {row['stddev']:.3f}")


if __name__ == "__main__":
    main()
