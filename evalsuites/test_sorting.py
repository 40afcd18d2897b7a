"""Three to five digits, put in order."""

from __future__ import annotations

from evalgate import Sampling, Task, exact_match, jsonl

sorting = Task(
    samples=jsonl(
        "data/sorting.jsonl", digest="sha256:5d46a2263ed0679ce5acb0b055abeaeb6e211d5723aaac20b9edcc54b983afb3"
    ),
    # kept back: --eval-top-up draws these where the others do not decide, --eval-nightly confirms a regression on them
    reserve=jsonl(
        "data/sorting_reserve.jsonl",
        digest="sha256:fee1e508025fedd173ec8d5309491935b4bdb79adbe1f1304ce74d620231e21a",
    ),
    prompt="Sort: {{ numbers }}\nA:",
    sampling=Sampling(max_tokens=16, stop=("\n",)),
    scorers=[exact_match()],
    slices=("length",),
)
