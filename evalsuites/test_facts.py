"""Questions about a short stock list that the prompt gives: the answer stands in the context and nowhere else."""

from __future__ import annotations

from evalgate import Sampling, Task, includes, jsonl

facts = Task(
    samples=jsonl("data/facts.jsonl", digest="sha256:dd8f43a9873c231a0c8045c1f3f84b804bfe73ef4c7acac7d2ab331b9c667568"),
    prompt="{{ document }}\nQ: {{ question }}\nA:",
    sampling=Sampling(max_tokens=32, stop=("\n",)),
    scorers=[includes()],
    slices=("racks",),
    # the questions about one stock list are right or wrong together more often than chance would have it
    cluster="document_id",
)
