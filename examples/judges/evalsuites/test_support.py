"""Questions about a stock list, judged by code, by a judge of our own and by three libraries."""

from __future__ import annotations

from evalgate import (
    Gate,
    Sampling,
    Task,
    deepeval_metric,
    includes,
    jsonl,
    judge,
    promptfoo,
    ragas_metric,
)

answers = Task(
    samples=jsonl("data/stock.jsonl"),
    prompt="{{ document }}\nQ: {{ question }}\nA:",
    sampling=Sampling(max_tokens=32, stop=("\n",)),
    scorers=[
        # It may block: evalsuites/calibrations/ says how far it agrees with people.
        judge(
            "Does the answer say what the reference says?",
            scale={1: "wrong", 2: "", 3: "partly right", 4: "", 5: "right"},
            gate=Gate(margin=0.1),
        ),
        # All others inform.
        includes(),
        deepeval_metric(
            "GEval",
            evaluation_steps=["Look in the actual output for what the expected output says."],
            evaluation_params=["input", "actual_output", "expected_output"],
        ),
        ragas_metric("AnswerAccuracy"),
        ragas_metric("NonLLMStringSimilarity", name="similarity"),
        promptfoo([{"type": "icontains", "value": "{{ reference }}"}], name="contains"),
        promptfoo([{"type": "llm-rubric", "value": "It says: {{ reference }}"}], name="rubric"),
    ],
    slices=("racks",),
    # questions about one stock list are right or wrong together
    cluster="document_id",
)
