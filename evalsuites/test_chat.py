"""The shop's skills, asked through the chat template."""

from __future__ import annotations

from evalgate import Sampling, Task, exact_match, jsonl

chat = Task(
    samples=jsonl("data/chat.jsonl", digest="sha256:bc6ceb0e8a00554158b4cfaa50e3a1174091492af3f71761286dc8617a095af1"),
    prompt=[{"role": "user", "content": "{{ message }}"}],
    sampling=Sampling(max_tokens=96),
    scorers=[exact_match()],
    slices=("skill",),
)
