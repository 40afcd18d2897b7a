"""How numbers read."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate import text
from evalgate.compare import compare
from evalgate.gate import Gate, Policy
from tests.unit.evaluations import BITS, EXACT, TOXIC, answers, evaluation


@pytest.mark.parametrize(
    ("value", "signed", "plain"),
    [
        (-0.062, "-6.2 pt", "-6.2 pt"),
        (0.05, "+5.0 pt", "5.0 pt"),
        (0.0, "0.0 pt", "0.0 pt"),
        (-0.0004, "0.0 pt", "0.0 pt"),
        (0.0004, "0.0 pt", "0.0 pt"),
        (1.0, "+100.0 pt", "100.0 pt"),
    ],
)
def test_points_are_hundredths_of_the_range(value: float, signed: str, plain: str) -> None:
    """One digit, a plus only where asked for, and no sign on what rounds to zero."""
    assert text.points(value) == signed
    assert text.points(value, sign=False) == plain
    assert text.percent(value) == signed.replace("pt", "%")
    assert text.percent(value, sign=False) == plain.replace("pt", "%")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.914, ".914"),
        (1.0, "1.000"),
        (0.0, ".000"),
        (-0.25, "-.250"),
        (-0.0001, ".000"),
        (9.9994, "9.999"),
        (10.04, "10.0"),
        (23.44, "23.4"),
        (1234.4, "1234"),
    ],
)
def test_values_have_three_digits(value: float, shown: str) -> None:
    """Shares lose their zero, larger values their needless digits."""
    assert text.share(value) == shown


@pytest.mark.parametrize(("p", "shown"), [(0.0123, ".012"), (1.0, "1"), (0.00001, "< .0001"), (0.025, ".025")])
def test_p_values_have_two_digits(p: float, shown: str) -> None:
    """Tiny ones are bounded, not written out."""
    assert text.probability(p) == shown


def test_lists_stop_after_a_few() -> None:
    """The rest is counted, and nothing is said of a rest of none."""
    assert text.listed(["a", "b"]) == "a, b"
    assert text.listed(list("abcde")) == "a, b, c, d, e"
    assert text.listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_effects_are_points_or_per_cent_of_the_baseline() -> None:
    """A metric without a range has no points; a baseline of 0 has no per cent."""
    assert text.effect(-0.01, EXACT, 0.9) == "-1.0 pt"
    assert text.effect(-0.01, BITS, 0.8) == "-1.2 %"
    assert text.effect(0.01, BITS, 0.8, sign=False) == "1.2 %"
    assert text.effect(-0.01, BITS, 0.0) == "0.0 %"


def test_headline_says_the_comparison_in_numbers() -> None:
    """Difference, interval, n, before and now; a metric where lower is better says so."""
    before, after = answers(n=500, loss=50, gain=10, wrong=40)
    shown = text.headline(
        compare(evaluation(after), evaluation(before, name="v2"), "exact_match", gate=Gate(), policy=Policy())
    )
    assert shown.startswith("-8.0 pt [-10.6, -5.6]  n=500  was .900, now .820"), shown
    toxic = text.headline(
        compare(
            evaluation(before, metric=TOXIC),
            evaluation(after, metric=TOXIC, name="v2"),
            "toxicity",
            gate=Gate(),
            policy=Policy(),
        )
    )
    assert toxic == "-8.0 pt [-10.6, -5.6]  n=500  was .820, now .900 (lower is better)"


@given(st.floats(-1, 1))
def test_points_never_say_minus_zero(value: float) -> None:
    """Whatever rounds to zero has no sign, and everything else keeps its own."""
    shown = text.points(value)
    assert not shown.startswith(("-0.0", "+0.0"))
    assert shown.startswith("-") == (round(100 * value, 1) < 0)


def test_a_p_value_reads_as_a_sentence() -> None:
    """Small ones are bounded, not written as `p = < .0001`."""
    assert text.p_value(0.012) == "p = .012"
    assert text.p_value(1e-9) == "p < .0001"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("https://me:SECRET@host/v1", "https://host/v1"),
        ("https://SECRET@host", "https://host"),
        ("--eval-records=s3://me:SEC@RET@host/a@b/c?sig=SECRET", "--eval-records=s3://host/a@b/c"),
        ("tracking.uri='https://me:SECRET@host/' x", "tracking.uri='https://host/' x"),
        ("https://host?sig=SECRET and https://me:SECRET@host", "https://host and https://host"),
        ("models:/shop@champion", "models:/shop@champion"),
        ("-k 'a?b' me@host", "-k 'a?b' me@host"),
    ],
)
def test_no_address_tells_a_secret(said: str, shown: str) -> None:
    """Neither user nor password nor query of an address is kept of a command; everything else is."""
    assert text.without_secrets(said) == shown
    assert text.typed("pytest", said) == shlex.join(["pytest", shown])
