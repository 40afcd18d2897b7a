"""Calibrating a judge on labelled answers: what is measured, and what is refused rather than measured wrongly."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evalgate.calibrate import MIN_LABELS, calibrate, read_labelled, verdict
from evalgate.calibration import Report, parse
from evalgate.checkpoint import Checkpoint
from evalgate.errors import InputError, JudgeError, MissingExtraError, SampleError, TaskError
from evalgate.instrument import Case, Instrument, Job, Judgement, JudgeModel
from evalgate.judges import native
from evalgate.request import Completion
from evalgate.scoring import judge, prefer
from evalgate.stats import cohen_kappa, krippendorff_alpha, side_error, weighted_kappa, wilson

Row = dict[str, Any]


def bound(instrument: Instrument | None) -> Instrument:
    """As a session binds it."""
    assert instrument is not None
    return replace(instrument, identity={"models": ["sha256:aa"], "versions": {}})


GRADES = bound(judge("Is it right?", scale=(1, 5)).judge)
PREFERENCE = bound(prefer().judge)


def rows(n: int = 60, **more: Callable[[int], Any]) -> list[Row]:
    """Labelled answers: two of three are right, in grades from 1 to 5."""
    made = [
        {
            "id": f"q{i:03}",
            "question": f"What is {i} + 1?",
            "answer": str(i + 1 if i % 3 else i),
            "reference": str(i + 1),
            "label": (5, 4, 2)[i % 3] if i % 3 else 1 + i % 2,
        }
        for i in range(n)
    ]
    return [{**row, **{name: make(i) for name, make in more.items()}} for i, row in enumerate(made)]


@dataclass
class Asked:
    """A judge that gives what it is told, and remembers what it was shown."""

    says: Callable[[Case], float | None]
    explains: Callable[[Case], str | None] = lambda case: None
    shown: list[Case] = field(default_factory=list)

    def __call__(self, cases: Sequence[Case]) -> Mapping[str, Judgement]:
        self.shown += cases
        found = {}
        for case in cases:
            value = self.says(case)
            error = None if value is not None else f"sample {case.sample}: no reply after 3 attempts in 7 s"
            found[case.id] = Judgement(case.id, value, self.explains(case), error)
        return found


def people(labelled: Sequence[Row]) -> Callable[[Case], float]:
    """A judge that says what people say."""
    labels = {row["id"]: float(row["label"]) for row in labelled}
    return lambda case: labels[case.sample]


def measured(labelled: Sequence[Row], says: Callable[[Case], float | None], **more: Any) -> Report:
    """The report on a judge that says that, both times."""
    given: dict[str, Any] = {"instrument": GRADES, "judge": Asked(says), "again": Asked(says)} | more
    return calibrate(labels=labelled, metric="shop/orders::judge", names=("tiny",), by="Ada", **given)


# -- what is measured -------------------------------------------------------------------------------------------------


def test_a_judge_that_agrees_with_people_in_everything() -> None:
    """Every number is at its best, and the judge was asked twice for each answer, as it stands."""
    labelled = rows()
    once, again = Asked(people(labelled)), Asked(people(labelled))
    report = measured(labelled, people(labelled), judge=once, again=again)
    best = (report.kappa, report.weighted_kappa, report.true_positive, report.true_negative)
    assert [each.value for each in best] == pytest.approx([1, 1, 1, 1])
    assert report.alpha == pytest.approx(1)
    assert (report.flips.value, report.n, report.right) == (0, 60, 20)
    assert (report.positions, report.side_error, report.annotators) == (None, None, None)
    assert (report.judge, report.models, report.by) == (GRADES.digest, ("tiny",), "Ada")
    for asked in (once, again):
        assert [case.sample for case in asked.shown] == [row["id"] for row in labelled]
        assert asked.shown[4] == Case("q004", "What is 4 + 1?", "5", "5")
    assert parse(report.as_bytes(), "file") == report


def test_a_judge_that_errs_is_measured_as_it_errs() -> None:
    """All numbers are those of the statistics on the same labels; right is above the middle of the scale."""
    labelled, rng = rows(90), Random(4)
    truth = people(labelled)
    values = {row["id"]: min(5.0, max(1.0, truth(Case(row["id"], "", "")) + rng.gauss(0, 1.5))) for row in labelled}
    report = measured(labelled, lambda case: values[case.sample])
    human, seen = [float(row["label"]) for row in labelled], list(values.values())
    right, called = [value > 3 for value in human], [value > 3 for value in seen]
    assert report.kappa == cohen_kappa(right, called)
    assert 0.2 < report.kappa.value < 0.9
    assert report.weighted_kappa == weighted_kappa(human, seen)
    assert report.alpha == pytest.approx(krippendorff_alpha([human, seen]), abs=0.01)
    hits = sum(a and b for a, b in zip(right, called, strict=True))
    assert report.true_positive == wilson(hits, sum(right))


def test_the_middle_of_the_scale_is_not_right() -> None:
    """A 3 of 5 is no right answer, neither of people nor of the judge."""
    labelled = rows(label=lambda i: 3 if i % 2 else 3.5)
    report = measured(labelled, people(labelled))
    assert report.right == 30
    assert report.kappa.value == pytest.approx(1)
    assert measured(labelled, lambda case: 3.0).true_positive.value == 0


def test_flips_are_between_the_first_time_and_the_second() -> None:
    """The judge as it is used is compared with people; the second time only with the first."""
    labelled = rows()
    truth = people(labelled)
    again = Asked(lambda case: 6 - truth(case) if case.sample < "q006" else truth(case))
    report = measured(labelled, truth, again=again)
    assert report.flips == wilson(6, 60)
    assert report.kappa.value == pytest.approx(1)


def test_a_judge_that_is_kind_to_the_candidate_is_found_out() -> None:
    """Where the labels say whose answers they are."""
    labelled = rows(label=lambda i: 1 + i % 4, side=lambda i: ("candidate", "baseline")[i // 4 % 2])
    sides = {row["id"]: row["side"] == "candidate" for row in labelled}
    truth = people(labelled)
    report = measured(labelled, lambda case: truth(case) + sides[case.sample])
    assert report.side_error == side_error(
        [truth(Case(name, "", "")) + kind for name, kind in sides.items()],
        [row["label"] for row in labelled],
        list(sides.values()),
    )
    assert report.side_error is not None
    assert report.side_error.value == pytest.approx(1)
    fair = measured(labelled, truth).side_error
    assert fair is not None
    assert fair.value == 0


def test_people_among_themselves_are_measured_where_two_labelled() -> None:
    """On those answers alone that both labelled; a judge cannot be asked for more agreement than they have."""
    labelled = rows(label_2=lambda i: None if i % 2 else (5, 4, 2)[i % 3])
    report = measured(labelled, people(labelled))
    both = [(float(row["label"]), float(row["label_2"])) for row in labelled if row["label_2"] is not None]
    first, second = zip(*both, strict=True)
    assert report.annotators is not None
    assert report.annotators.n == 30
    assert report.annotators.weighted_kappa == weighted_kappa(first, second)
    assert report.annotators.kappa == cohen_kappa([x > 3 for x in first], [x > 3 for x in second])
    assert parse(report.as_bytes(), "file") == report
    one_class = rows(label_2=lambda i: 5 if i in (3, 9) else None, label=lambda i: 1 if i % 3 else 5)
    assert measured(one_class, people(one_class)).annotators is None


def test_the_labels_digest_is_of_content(tmp_path: Path) -> None:
    """The order of rows changes nothing, a label does; a file and its rows are the same labels."""
    labelled = rows()
    one = read_labelled(GRADES, labelled)[1]
    assert read_labelled(GRADES, labelled[::-1])[1] == one
    assert read_labelled(GRADES, written(tmp_path, labelled))[1] == one
    changed = [*labelled[:-1], {**labelled[-1], "label": 5}]
    assert read_labelled(GRADES, changed)[1] != one


# -- preferences ------------------------------------------------------------------------------------------------------


def preferences(n: int = 60) -> list[Row]:
    """Labelled pairs: the answer is better, the other one, or neither."""
    return rows(n, other=lambda i: "none of that", label=lambda i: (1, 0, 0.5)[i % 3])


def native_judge(labelled: Sequence[Row], biased: int) -> Callable[[Sequence[Case]], Mapping[str, Judgement]]:
    """Our own judge's reading of a model that prefers as people do, and always what stands first for some."""
    labels = {row["id"]: row["label"] for row in labelled}
    model = JudgeModel("tiny", Checkpoint("tiny", None, "full", "w", "t", None, "a", 0), "sha256:0")

    def ask(cases: Sequence[Case]) -> Mapping[str, Judgement]:
        found = {}
        for number, case in enumerate(cases):
            first = {1: "A", 0: "B", 0.5: "C"}[labels[case.sample]]
            second = {"A": "B", "B": "A", "C": "C"}[first]
            chosen = ("A", "A") if number < biased else (first, second)
            completions = [
                Completion("r", finish="score", logprobs=tuple(-0.1 if label == each else -3.0 for label in "ABC"))
                for each in chosen
            ]
            found[case.id] = native.read(Job(PREFERENCE, case, model), completions)
        return found

    return ask


def test_preferences_are_calibrated_with_both_orders() -> None:
    """Position consistency is read from what our judge said in either order, also where neither won."""
    labelled = preferences()
    report = measured(
        labelled, people(labelled), instrument=PREFERENCE, judge=native_judge(labelled, 9),
        again=native_judge(labelled, 0),
    )  # fmt: skip
    assert report.positions == wilson(51, 60)
    assert report.right == 20
    assert report.true_negative.value == 1  # where the orders disagree, neither is preferred
    assert report.true_positive == wilson(17, 20)
    assert report.flips == wilson(3, 60)


def test_a_panel_has_two_orders_for_each_of_its_models() -> None:
    """The explanation of a panel holds those of its members."""
    labelled = preferences()
    one = "a: 1 (candidate first: the candidate (90%); baseline first: the candidate (80%)); "
    other = "b: 0.5 (candidate first: the candidate (51%); baseline first: the baseline (60%))"
    panel = Asked(people(labelled), lambda case: one + other)
    report = measured(labelled, people(labelled), instrument=PREFERENCE, judge=panel)
    assert report.positions == wilson(60, 120)


def test_positions_that_were_not_said_are_unknown() -> None:
    """Of a judge that asks in one order, or does not say."""
    labelled = preferences()
    assert measured(labelled, people(labelled), instrument=PREFERENCE).positions is None


# -- what is refused --------------------------------------------------------------------------------------------------


def written(folder: Path, labelled: Sequence[Row]) -> Path:
    """A labels file."""
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in labelled))
    return path


@pytest.mark.parametrize("faulty", [0, 17, 59])
def test_a_judgement_that_is_an_error_ends_the_calibration(faulty: int) -> None:
    """It says how many there are, which is the first and why; without it a judge that fails on what is hard is good."""
    labelled = rows()
    truth = people(labelled)
    failing = {f"q{faulty:03}", "q059"}

    def says(case: Case) -> float | None:
        return None if case.sample in failing else truth(case)

    for side in ("judge", "again"):
        with pytest.raises(JudgeError) as caught:
            measured(labelled, truth, **{side: Asked(says)})
        text = str(caught.value)
        assert text.startswith(
            f"{len(failing)} of 60 labelled answers have no judgement, the first: sample q{faulty:03}: "
        )
        assert "no reply after 3 attempts in 7 s" in text
        assert "\n" not in text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.99, 5.01])
def test_no_value_of_the_scale_is_no_judgement(value: float) -> None:
    """Whoever gave it: the numbers would be nonsense."""
    labelled = rows()
    with pytest.raises(JudgeError, match=f"the first: sample q000: {value!r} is no value of the scale"):
        measured(labelled, lambda case: value)


def test_an_answer_that_was_not_judged_is_missed() -> None:
    """A judge that says nothing of a case has not judged it."""
    labelled = rows()
    whole = Asked(people(labelled))

    def forgetful(cases: Sequence[Case]) -> Mapping[str, Judgement]:
        return dict(list(whole(cases).items())[:-1])

    with pytest.raises(JudgeError, match=r"1 of 60 .* the first: sample q059: the judge said nothing of it"):
        measured(labelled, people(labelled), judge=forgetful)


def test_what_an_endpoint_wrote_is_inert_in_the_message() -> None:
    """Escape sequences and CI commands are shown, not obeyed."""
    labelled = rows()

    def hostile(cases: Sequence[Case]) -> Mapping[str, Judgement]:
        return {case.id: Judgement(case.id, None, error="\x1b[2J##[error]gone\n::set-output") for case in cases}

    with pytest.raises(JudgeError) as caught:
        measured(labelled, people(labelled), judge=hostile)
    assert "\x1b" not in str(caught.value)
    assert "##[" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [
        ({"label": 6}, 7, "the label is 6, outside the judge's scale of 1 to 5"),
        ({"label": 0.99}, 7, "the label is 0.99, outside the judge's scale of 1 to 5"),
        ({"label": "5"}, 7, "the field 'label' is a text, expected a number"),
        ({"label": True}, 7, "the field 'label' is true or false, expected a number"),
        ({"label": None}, 7, "the field 'label' is nothing, expected a number"),
        ({"label_2": 9}, 7, "the label_2 is 9, outside the judge's scale"),
        ({"question": None}, 7, "the field 'question' is nothing, expected text"),
        ({"answer": 4}, 7, "the field 'answer' is a number, expected text"),
        ({"reference": ["4"]}, 7, "the field 'reference' is a list, expected text"),
        ({"id": 4}, 7, "the field 'id' is a number, expected text"),
        ({"side": "left"}, 7, "the side is 'left', expected baseline or candidate"),
        ({"id": "q002"}, 7, "has the id of {path}:3: label each answer once"),
    ],
)
def test_a_row_that_is_wrong_is_named_by_its_line(
    tmp_path: Path, change: Row, place: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File and line, what is expected and what is there; nobody is asked anything."""
    monkeypatch.chdir(tmp_path)
    labelled = rows()
    labelled[place - 1] |= change
    asked = Asked(people(rows()))
    with pytest.raises(SampleError) as caught:
        measured_file(written(tmp_path, labelled), asked)
    assert str(caught.value).startswith(f"labels.jsonl:{place}: {says.format(path='labels.jsonl')}"), caught.value
    assert asked.shown == []


def measured_file(path: Path, asked: Asked) -> Report:
    """The report on the labels of a file."""
    return calibrate(GRADES, path, asked, asked, metric="shop/orders::judge", names=(), by="Ada")


@pytest.mark.parametrize("name", ["id", "question", "answer", "reference", "label"])
def test_a_row_without_a_field_is_refused(name: str) -> None:
    """The judge must be shown here what it is shown in a run; `reference` where it sees one."""
    labelled = rows()
    del labelled[3][name]
    with pytest.raises(SampleError, match=f"row 4: the field '{name}' is not there"):
        measured(labelled, people(rows()))
    blind = replace(GRADES, reference=False)
    without = [{key: value for key, value in row.items() if key != "reference"} for row in rows()]
    assert read_labelled(blind, without)[0][0].case.reference is None


def test_the_fields_that_the_judge_is_shown_are_shown() -> None:
    """And a row without one of them is refused."""
    shown = replace(GRADES, fields=("context",))
    labelled = rows(context=lambda i: [f"document {i}"])
    assert read_labelled(shown, labelled)[0][5].case.fields == {"context": ["document 5"]}
    del labelled[5]["context"]
    with pytest.raises(SampleError, match="row 6: no field 'context', which the judge is shown"):
        read_labelled(shown, labelled)


@pytest.mark.parametrize("label", [0.7, -1, 2])
def test_a_preference_is_one_of_three(label: float) -> None:
    """1, 0 or .5, and it needs the other answer."""
    labelled = preferences()
    assert read_labelled(PREFERENCE, labelled)[0][0].case.other == "none of that"
    labelled[0]["label"] = label
    with pytest.raises(SampleError, match=f"row 1: the label is {label}, expected 1"):
        read_labelled(PREFERENCE, labelled)
    with pytest.raises(SampleError, match="row 1: the field 'other' is not there"):
        read_labelled(PREFERENCE, rows(label=lambda i: i % 2))


def test_the_same_answer_twice_is_no_second_label() -> None:
    """Doubled rows would make every interval too narrow."""
    labelled = rows()
    labelled[9] = {**labelled[2], "id": "another"}
    with pytest.raises(SampleError, match="row 10: has the question and answer of labels, row 3: label each answer"):
        read_labelled(GRADES, labelled)


def test_too_few_labels_say_nothing() -> None:
    """One less than enough is refused, and just enough is measured."""
    labelled = rows(MIN_LABELS)
    assert measured(labelled, people(labelled)).n == MIN_LABELS
    with pytest.raises(SampleError, match=f"{MIN_LABELS - 1} labelled answers, expected {MIN_LABELS} at least"):
        measured(labelled[1:], people(labelled))


@pytest.mark.parametrize(("label", "said"), [(5, "every"), (3, "no"), (1, "no")])
def test_one_class_alone_calibrates_nobody(label: int, said: str) -> None:
    """A judge that says "right" to everything would agree with people who only saw right answers."""
    labelled = rows(label=lambda i: label)
    with pytest.raises(SampleError, match=f"people call {said} answer right"):
        measured(labelled, people(labelled))


def test_sides_are_said_of_all_or_of_none() -> None:
    """Half of the sides would measure half of an error."""
    for sides in (lambda i: "candidate" if i < 20 else None, lambda i: "candidate"):
        labelled = rows(side=sides)
        with pytest.raises(SampleError, match=r"of 60 answers 0 of the baseline's, .* of the candidate's"):
            read_labelled(GRADES, labelled)


def test_an_instrument_without_models_cannot_be_measured() -> None:
    """Its digest would be nobody's."""
    with pytest.raises(TaskError, match="bound to no models"):
        measured(rows(), people(rows()), instrument=replace(GRADES, identity=None))


def test_the_extra_is_asked_for_before_the_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judgements cost money; that evalica is missing is known without them."""
    monkeypatch.setitem(sys.modules, "evalica", None)
    asked = Asked(people(rows()))
    with pytest.raises(MissingExtraError, match="evalica"):
        measured(rows(), people(rows()), judge=asked)
    assert asked.shown == []


@pytest.mark.parametrize("text", ["", "{}\n", "nonsense\n", "[]\n"])
def test_a_file_of_nothing_is_refused(tmp_path: Path, text: str) -> None:
    """As eval data is, by the same rules."""
    path = tmp_path / "labels.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=r"labels\.jsonl"):
        read_labelled(GRADES, path)
    with pytest.raises(InputError, match="there is no such file"):
        read_labelled(GRADES, tmp_path / "other.jsonl")


# -- what it means ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("errors", "may"), [(0, True), (6, True), (24, False)])
def test_the_sentence_says_whether_the_metric_may_block(errors: int, may: bool) -> None:
    """Kappa with its interval, the labels, the floor; the floor itself is enough."""
    labelled = rows()
    truth = people(labelled)
    report = measured(labelled, lambda case: 6 - truth(case) if case.sample < f"q{errors:03}" else truth(case))
    found, said = verdict(report, 0.6)
    assert found is may
    assert said.startswith(f"kappa {report.kappa.value:.3f}".replace("0.", "."))
    assert said.endswith(f" on 60 labels: {'may block' if may else 'may not block'} (floor .600)")
    assert verdict(report, report.kappa.value)[0]
    assert not verdict(report, report.kappa.value + 1e-9)[0]
