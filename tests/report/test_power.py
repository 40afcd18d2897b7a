"""Power as text: what a person reads before a run."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.gate import Gate, Policy
from evalgate.power import Observed, Planned, PowerPlan, plan_power
from evalgate.report.power import power_json, power_summary, power_table
from evalgate.scoring import bits_per_byte, exact_match, function
from evalgate.task import Sample


def half(output: str, sample: Sample) -> float:
    """A score that is not right or wrong."""
    return 0.5


def seen(loss: int = 9, gain: int = 5, n: int = 200, sd: float = 0.3) -> Observed:
    """A last comparison."""
    return Observed(loss=loss, gain=gain, n=n, clusters=n, sd=sd, deff=1.0)


def metric(name: str, n: int, **more: Any) -> Planned:
    """A metric that counts right answers, unless it is another."""
    given: dict[str, Any] = {"scorer": exact_match()} | more
    return Planned(task=name, n=n, **given)


def plan(*metrics: Planned, steps: int | None = None, flip_rate: float = 0.0) -> PowerPlan:
    """The plan of these metrics, which are the whole family unless it is larger."""
    return plan_power(metrics, Policy(), steps=steps or len(metrics), flip_rate=flip_rate)


MIXED = plan(
    metric("arithmetic/sums", 1200),
    metric("chat/chat", 400, observed=seen(20, 22, 400)),
    metric("facts/facts", 458, clusters=150),
    metric("language/prose", 300, scorer=bits_per_byte(), baseline=0.9, observed=seen(sd=0.02)),
    metric("language/poems", 300, scorer=bits_per_byte(), baseline=0.9),
    metric("orders/orders", 450, scorer=function(half, name="same_order", gate=Gate(margin=0.1))),
    metric("few/groups", 900, clusters=6),
)


def test_the_table_reads_well_at_80_columns() -> None:
    """Aligned columns, marks for what is wrong or unknown, what the marks mean, and what to do."""
    assert power_table(MIXED, width=80) == [
        "power .80 at level .0036 (alpha .05, 7 tests)",
        "",
        "  blocking metric                samples    differ    sees   margin  needs",
        "  arithmetic/sums::exact_match      1200    20.0%*  4.6 pt   5.0 pt    995",
        "! chat/chat::exact_match             400     12.0%  6.1 pt   5.0 pt    596",
        "! facts/facts::exact_match       458/150  sd .447*  7.4 pt   5.0 pt    998",
        "  language/prose::bits_per_byte      300   sd .020   0.5 %    1.0 %     62",
        "? language/poems::bits_per_byte      300         ?       ?    1.0 %      ?",
        "  orders/orders::same_order          450  sd .447*  7.4 pt  10.0 pt    250",
        "! few/groups::exact_match          900/6  sd .447*  5.3 pt   5.0 pt    998",
        "",
        "differ: share of answers expected to change; sd: how far scores differ",
        "sees: the smallest drop that is found; needs: samples that see their margin",
        "samples/clusters; * assumed, ? unknown until the first comparison",
        "",
        "! 3 of 7 underpowered; more samples, or a margin that these hold:",
        "  chat/chat::exact_match +196 or margin=0.061, facts/facts::exact_match +540 or",
        "  margin=0.074, few/groups::exact_match 9 clusters (with 6 nothing is",
        "  significant).",
    ]


def test_the_summary_is_two_lines() -> None:
    """Ranges of what is seen, counts, and the first underpowered metrics with what they need and have."""
    first, second = power_summary(MIXED, width=160)
    assert first == (
        "evalgate: power .80 at level .0036 · sees 4.6 to 7.4 pt and 0.5 % · 3 of 7 underpowered · 1 unknown"
    )
    assert second == (
        "  chat/chat::exact_match (sees 6.1 pt of 5.0, needs 596, has 400), "
        "facts/facts::exact_match (sees 7.4 pt of 5.0, needs 998, has 458) and 1 more; -v shows all"
    )
    assert power_summary(MIXED, width=100)[1] == (
        "  chat/chat::exact_match (sees 6.1 pt of 5.0, needs 596, has 400) and 2 more; -v shows all"
    )


def test_the_summary_of_one_metric_names_its_margin() -> None:
    """There is no range to show of one; where all is well there is one line, and none claims what is not known."""
    assert power_summary(plan(metric("a/b", 600))) == ["evalgate: power .80 at level .05 · sees 4.5 pt of 5.0 pt"]
    unknown = plan(metric("a/b", 600, scorer=bits_per_byte()))
    assert power_summary(unknown) == ["evalgate: power .80 at level .05 · 1 unknown"]
    assert power_summary(plan(metric("a/b", 20), steps=9), width=200)[1].startswith(
        "  a/b::exact_match (sees 55.6 pt of 5.0, "
    )
    assert power_summary(plan(metric("a/b", 900, clusters=4)), width=200)[1] == (
        "  a/b::exact_match (4 clusters, 5 are the least); -v shows all"
    )
    wide = metric("a/b", 20, scorer=exact_match(gate=Gate(margin=0.9)))
    assert power_summary(plan(wide), width=200)[1] == (
        "  a/b::exact_match (has 20 samples, 30 are the least); -v shows all"
    )


@pytest.mark.parametrize(
    ("planned", "says"),
    [
        (metric("a/b", 600), "1 of 1 can see a drop of their margin."),
        (metric("a/b", 600, scorer=bits_per_byte()), "Nothing can be said before the first comparison."),
        (
            metric("a/b", 5),
            "! 1 of 1 underpowered; more samples, or a margin that these hold: a/b::exact_match +488 or",
        ),
        (metric("a/b", 20, scorer=exact_match(gate=Gate(margin=0.9))), "hold: a/b::exact_match +10."),
    ],
)
def test_the_last_line_says_what_to_do(planned: Planned, says: str) -> None:
    """How many samples to add, which margin they can hold, or that there is nothing to do."""
    last = power_table(plan(planned), width=200)[-1]
    assert says.removesuffix(" or") in last
    assert ("margin=" in last) == (says.endswith(" or") and planned.n >= Policy().min_n)


def test_a_margin_that_is_proposed_is_held() -> None:
    """A task that declares what the advice proposes is no longer underpowered, in points and in per cent."""
    for scorer, make in ((exact_match, {}), (bits_per_byte, {"baseline": 0.9, "observed": seen(sd=0.1)})):
        before = plan(metric("a/b", 300, scorer=scorer(), **make))
        assert before.underpowered
        proposed = float(power_table(before, width=200)[-1].rpartition("margin=")[2].removesuffix("."))
        after = plan(metric("a/b", 300, scorer=scorer(gate=Gate(margin=proposed)), **make))
        assert not after.underpowered
        tighter = plan(metric("a/b", 300, scorer=scorer(gate=Gate(margin=proposed - 0.001)), **make))
        assert tighter.underpowered


def test_the_samples_that_are_proposed_do() -> None:
    """A task that gets as many samples as the advice proposes is no longer underpowered."""
    text = power_table(plan(metric("a/b", 300)), width=200)[-1]
    added = int(text.partition("+")[2].split()[0])
    assert not plan(metric("a/b", 300 + added)).underpowered
    assert plan(metric("a/b", 300 + added - 1)).underpowered


def test_more_than_five_remedies_are_counted() -> None:
    """The table has them all; the sentence stays a sentence."""
    text = " ".join(power_table(plan(*(metric(f"a/b{i}", 100) for i in range(8))), width=80)[-6:])
    assert "a/b4::exact_match" in text
    assert "a/b5::exact_match" not in text
    assert text.endswith("and 3 more.")


def test_the_noise_floor_is_marked() -> None:
    """A discordance that comes from repeats of one checkpoint is told from what a comparison showed."""
    lines = power_table(plan(metric("a/b", 600, observed=seen()), flip_rate=0.4))
    assert "40.0%~" in lines[3]
    assert "~ noise floor: a repeated run changes as many" in lines
    assert not any("~" in said for said in power_table(plan(metric("a/b", 600, observed=seen()))))


@given(
    names=st.lists(st.integers(5, 90).map("x".__mul__), min_size=1, max_size=4, unique=True), width=st.integers(50, 200)
)
def test_nothing_but_a_name_is_wider_than_the_terminal(names: list[str], width: int) -> None:
    """Where names do not fit, each metric takes two lines; columns stay aligned."""
    lines = power_table(plan(*(metric(name, 450) for name in names)), width=width)
    assert all(len(said) <= width for said in lines if "::" not in said)
    rows = lines[2 : lines.index("", 2)]
    ends = [len(said) for said in rows if said.endswith("needs") or said[-1].isdigit()]
    assert len(ends) == len(names) + 1
    assert len(set(ends)) == 1


def test_hostile_names_are_inert() -> None:
    """What a suite calls its tasks cannot paint the terminal or speak to a CI runner."""
    evil = "a/\x1b[31mb\n::error::x"
    for said in (*power_table(plan(metric(evil, 10)), width=80), *power_summary(plan(metric(evil, 10)), width=80)):
        assert said.isprintable()
        assert not said.lstrip().startswith("::")


def test_machines_get_every_number() -> None:
    """JSON without NaN or infinity; what is not known is null."""
    found = power_json(MIXED)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    by_name = {f"{line['task']}::{line['metric']}": line for line in found["metrics"]}
    assert len(by_name) == 7
    assert by_name["few/groups::exact_match"]["undecidable"] is True
    assert by_name["language/poems::bits_per_byte"]["detectable"] is None
    assert by_name["orders/orders::same_order"]["sd"] == math.sqrt(0.2)
    assert by_name["chat/chat::exact_match"]["source"] == "last comparison"
