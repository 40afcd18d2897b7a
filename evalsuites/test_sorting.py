"""Three to five digits, put in order."""

from __future__ import annotations

from evalgate import Sampling, Task, exact_match, jsonl

sorting = Task(
    samples=jsonl(
        "data/sorting.jsonl", digest="sha256:5d46a2263ed0679ce5acb0b055abeaeb6e211d5723aaac20b9edcc54b983afb3"
    ),
    prompt="Sort: {{ numbers }}\nA:",
    sampling=Sampling(max_tokens=16, stop=("\n",)),
    scorers=[exact_match()],
    slices=("length",),
)
