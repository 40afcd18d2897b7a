"""Questions about a stock list, judged in every way there is: by code, by our own judge, and by three libraries."""

from __future__ import annotations

from evalgate import (
    Gate,
    Sampling,
    Task,
    deepeval_metric,
    exact_match,
    includes,
    jsonl,
    judge,
    prefer,
    promptfoo,
    ragas_metric,
)

answers = Task(
    samples=jsonl("data/stock.jsonl"),
    prompt="{{ document }}\nQ: {{ question }}\nA:",
    sampling=Sampling(max_tokens=32, stop=("\n",)),
    scorers=[
        includes(),
        exact_match(),
        # calibrated, so it may block: evalsuites/calibrations/ says how far it agrees with people
        judge(
            "Does the answer say what the reference says?",
            scale={1: "wrong", 2: "", 3: "partly right", 4: "", 5: "right"},
            gate=Gate(margin=0.05),
        ),
        # not calibrated: these inform
        prefer("Which answer says what the reference says?"),
        deepeval_metric(
            "GEval",
            evaluation_steps=["Look for what the expected output says in the actual output.", "More words cost nothing."],
            evaluation_params=["input", "actual_output", "expected_output"],
            max_tokens=256,
        ),
        ragas_metric("AnswerAccuracy", max_tokens=64),
        ragas_metric("NonLLMStringSimilarity"),
        promptfoo([{"type": "icontains", "value": "{{ reference }}"}], name="contains"),
        promptfoo([{"type": "llm-rubric", "value": "It says: {{ reference }}"}], name="rubric"),
    ],
    slices=("racks",),
    cluster="document_id",
)
