"""A verdict as an in-toto Statement, for supply chains: this content passed these tests, in this configuration.

Layers by https://github.com/in-toto/attestation: Statement v1 around the vetted predicate test-result v0.1. It is
unsigned, and worth what the file it lies in is worth: docs/cards.md says how to sign it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from evalgate.digest import PREFIX, digest
from evalgate.errors import RecordError
from evalgate.gate import Outcome

if TYPE_CHECKING:
    from evalgate.gate import Family
    from evalgate.report.card import CardData

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
TOGETHER = "all metrics together"


def statement(data: CardData) -> dict[str, Any]:
    """The verdict of a card as the JSON object of an in-toto Statement.

    PASSED: every test passed, and all of them ran. FAILED: the policy blocks the checkpoint. WARNED is the rest: the
    policy let something pass that is not shown (INCONCLUSIVE), a metric that only informs got worse, or a test did not
    run.

    Raises:
        RecordError: nothing was evaluated, so there is no content that a statement could be about.
    """
    if data.digest is None:
        raise RecordError(
            "nothing was evaluated: there is no digest to attest", where=data.name, mend="Run the gate again."
        )
    family = data.family
    passed, warned, failed = (
        [name for name, result in _tests(family) if result == kind] for kind in ("PASSED", "WARNED", "FAILED")
    )
    blocked = family.fails(family.policy)
    return {
        "_type": TYPE,
        "subject": [{"name": data.name, "digest": _digests(data.digest)}],
        "predicateType": PREDICATE,
        "predicate": {
            "result": "FAILED" if blocked or failed else "WARNED" if warned or family.partial else "PASSED",
            "configuration": list(_configuration(data)),
            "passedTests": passed,
            "warnedTests": warned,
            "failedTests": failed,
        },
    }


def _tests(family: Family) -> Iterator[tuple[str, str]]:
    """Each test's name and result: one per metric, and one of all together where there is one."""
    for verdict in family.verdicts:
        yield f"{verdict.task}::{verdict.metric}", _result(verdict.outcome, failed=verdict.fails(family.policy))
    if family.together:
        yield TOGETHER, _result(family.together, failed=family.fails_together(family.policy))


def _result(outcome: Outcome, *, failed: bool) -> str:
    return "FAILED" if failed else "PASSED" if outcome is Outcome.PASS else "WARNED"


def _configuration(data: CardData) -> Iterator[dict[str, Any]]:
    """Resource descriptors of what decided: the policy, and per task its data, prompt, record and baseline."""
    policy = asdict(data.family.policy)
    yield {"name": "policy", "digest": _digests(digest(policy)), "annotations": policy}
    for task, evaluation in data.candidates.items():
        yield {"name": f"eval-data/{task}", "digest": _digests(evaluation.samples)}
        yield {"name": f"prompt/{task}", "digest": _digests(evaluation.prompt)}
        for metric in evaluation.metrics:
            yield {"name": f"metric/{task}::{metric.name}", "digest": _digests(metric.digest)}
        yield {"name": f"record/{task}", "digest": _digests(evaluation.record)}
    for task, baseline in data.baselines.items():
        yield {"name": f"baseline/{task}", "digest": _digests(baseline.record)}
    if data.ledger_head:
        yield {"name": "ledger", "digest": _digests(data.ledger_head)}


def _digests(full: str) -> dict[str, str]:
    return {"sha256": full.removeprefix(PREFIX)}
