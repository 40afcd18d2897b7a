"""The Hugging Face card: what is measured reads back, what nobody said is not stated, nothing hostile acts, copies."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData, parse_eval_result_entries
from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard_data import EvalResult, model_index_to_eval_results
from huggingface_hub.utils._validators import validate_repo_id
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from tests.report.conftest import evaluation

from evalgate.errors import CheckpointError, ConfigError
from evalgate.gate import Family, Outcome, Policy, Verdict
from evalgate.report import CardData
from evalgate.report.hub import copy_with_card, eval_results, readme, value_of
from evalgate.report.readme import render
from evalgate.report.stated import SECTIONS, Stated

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></tr></table>",
    "<!-- gone",
    "![x](https://example.org/x.png)",
    "[x](javascript:alert(1))",
    "<https://example.org>",
    "https://example.org www.example.org",
    "@maintainer #12 GH-12 owner/repo#12",
    "a | b \\| c",
    "\n\n# PASSED\n\n",
    "x\n---\ny",
    "---\nlicense: mit\n---\n",
    "```\n# out\n```",
    "~~~\n# out",
    "**b** __b__ *e* ~~s~~ `c`",
    "- item\n1. item\n> quote",
    "| a |\n|---|\n| b |",
    "[r]: https://example.org\n\n[r]",
    "{{ 7 * 7 }}{% raw %}{# gone #}${{ secrets.TOKEN }}",
    "::: warning",
    "$x^2$ $$y$$",
    "&lt;b&gt; &#60;i&#62;",
    "\u202ereversed\u2066 \ud800 \x1b[31m\x07\x00",
    "trailing \\",
]
SAYS = {section: f"people say {section}" for section in SECTIONS}


def tokens(markdown: str) -> list[Token]:
    """All tokens of a document as the hub reads it, HTML included, what stands inside blocks as well."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return [each for token in parser.parse(text_of(markdown)) for each in (token, *(token.children or ()))]


def text_of(markdown: str) -> str:
    """What stands below the metadata."""
    return re.sub(r"\A---\n.*?\n---\n", "", markdown, count=1, flags=re.DOTALL)


def headings(markdown: str) -> list[str]:
    """Levels and titles, as text."""
    found = tokens(markdown)
    return [
        f"{token.markup} {found[place + 1].content}"
        for place, token in enumerate(found)
        if token.type == "heading_open"
    ]


def loaded(data: CardData, folder: Path) -> ModelCardData:
    """The card's metadata as the hub's own library reads them from disk."""
    path = folder / "README.md"
    path.write_text(readme(data), "utf-8", newline="\n")
    return metadata(ModelCard.load(path))


def metadata(card: ModelCard) -> ModelCardData:
    """Of a model's card."""
    assert isinstance(card.data, ModelCardData)
    return card.data


# -- metadata ---------------------------------------------------------------------------------------------------------


def test_what_was_measured_reads_back(demo: CardData, tmp_path: Path) -> None:
    """Every metric with a value: its name, its task, the digest of its data, and the value to the last bit."""
    card = loaded(demo, tmp_path)
    name, results = model_index_to_eval_results(yaml_of(readme(demo))["model-index"])
    assert name == "v3"
    assert [(each.dataset_name, each.metric_type, each.metric_name, each.metric_value) for each in results] == [
        (verdict.task, verdict.metric, verdict.metric, value_of(verdict)) for verdict in demo.family.verdicts
    ]
    for each in results:
        assert each.task_type == "text-generation"
        assert each.dataset_type == f"evalgate:{each.dataset_name}"
        with pytest.raises(HFValidationError):  # it is nobody's dataset on the hub
            validate_repo_id(each.dataset_type)
        assert each.dataset_revision == demo.candidates[each.dataset_name].samples
        assert type(each.metric_value) is float
    assert results == card.eval_results


def test_an_error_is_no_number(demo: CardData, hostile_card: Callable[..., CardData], tmp_path: Path) -> None:
    """What failed, was never measured or is no finite number is left out; a measured zero is there."""
    verdict = demo.family.verdicts[0]
    for lost in (
        replace(verdict, outcome=Outcome.ERROR),
        replace(verdict, comparison=None, value=None),
        replace(verdict, comparison=None, value=math.nan),
        replace(verdict, comparison=None, value=math.inf),
    ):
        assert value_of(lost) is None
        text = readme(replace(demo, family=replace(demo.family, verdicts=(lost, demo.family.verdicts[1]))))
        assert [m["type"] for r in yaml_of(text)["model-index"][0]["results"] for m in r["metrics"]] == ["chrf"]
        assert "model-index" not in yaml_of(readme(replace(demo, family=replace(demo.family, verdicts=(lost,)))))
    assert value_of(replace(verdict, comparison=None, value=0.0)) == 0.0
    names = {r["dataset"]["name"] for r in yaml_of(readme(bare(hostile_card("x"))))["model-index"][0]["results"]}
    assert names == {"x", "x new"}  # not "x broken", whose evaluation has an error, nor "x lost"


def yaml_of(text: str) -> dict[str, Any]:
    """The metadata by YAML's own reader."""
    found = re.match(r"\A---\n(.*?)\n---\n", text, flags=re.DOTALL)
    assert found
    value = yaml.safe_load(found[1])
    assert isinstance(value, dict)
    return value


def bare(data: CardData) -> CardData:
    """The same without what people state."""
    return replace(data, statement=None)


def family_of(verdicts: list[Verdict]) -> Family:
    """A family of these verdicts."""
    return Family(
        verdicts=tuple(verdicts), outcome=Outcome.PASS, reason="fine", pooled=None, partial=(), policy=Policy()
    )


_names = st.text(min_size=1, max_size=30) | st.sampled_from(
    [*HOSTILE, "no", "1", "null", "~", "1e3", "2026-01-01", "- a"]
)


@settings(deadline=None)
@given(
    st.dictionaries(st.tuples(_names, _names), st.floats(allow_nan=False, allow_infinity=False), max_size=6),
    _names,
)
def test_any_name_and_number_reads_back(measured: dict[tuple[str, str], float], model: str) -> None:
    """Law: whatever tasks, metrics and models are called, the metadata hold exactly what was measured."""
    verdicts = [
        Verdict(task=task, metric=metric, blocking=True, outcome=Outcome.NO_BASELINE, reason="new", value=value)
        for (task, metric), value in measured.items()
    ]
    tasks = {task for task, _ in measured}
    candidates = {task: evaluation(task, [], (), who="v") for task in tasks}
    data = CardData(
        name=model,
        family=family_of(verdicts),
        candidates=candidates,
        baselines={},
        statement=None,
        ledger_head=None,
        command="pytest",
        generated="2026-11-20T21:05:00+00:00",
    )
    card = metadata(ModelCard(readme(data)))
    assert card.model_name == model
    found = {(each.dataset_name, each.metric_type): each.metric_value for each in card.eval_results or ()}
    assert found == measured
    assert all(repr(found[key]) == repr(value) for key, value in measured.items())


def test_people_fill_the_metadata(demo: CardData, tmp_path: Path) -> None:
    """Licence, language, tags and base come from model_card.md; the library is known from the checkpoint's kind."""
    front = "---\nlicense: mit\nlanguage: [en]\ntags: [a]\nbase_model: o/n\ndatasets: [o/d]\nmodel_name: Shop\n---\n"
    stated = loaded(replace(demo, statement=front), tmp_path)
    assert (stated.license, stated.language, stated.tags, stated.base_model) == ("mit", ["en"], ["a"], "o/n")
    assert (stated.datasets, stated.model_name, stated.library_name) == (["o/d"], "Shop", "peft")
    unstated = loaded(bare(demo), tmp_path)
    for name in ("license", "language", "tags", "base_model", "datasets", "pipeline_tag", "metrics"):
        assert unstated.get(name) is None, name
    assert set(yaml_of(readme(bare(demo)))) == {"library_name", "model-index"}
    assert readme(replace(demo, statement="---\nlicense: mit\n---\n")).count("mit\n") == 2  # metadata and section


# -- benchmarks of the hub --------------------------------------------------------------------------------------------


def on_hub(demo: CardData, *lines: str) -> CardData:
    """The demo where people say what its eval sets are on the hub."""
    return replace(demo, statement="\n".join(["---", "eval_datasets:", *lines, "---", ""]))


def test_results_for_benchmarks_of_the_hub(demo: CardData, tmp_path: Path) -> None:
    """A file for each task that people say is one, read back by the hub's own library; none for the others."""
    data = on_hub(
        demo,
        "  orders/extraction: {id: org/orders, task_id: default, revision: abc}",
        "  arithmetic/addition: {id: org/sums, task_id: 'a/b c', metric: chrf}",
        "  elsewhere/task: {id: org/other, task_id: x}",
    )
    files = eval_results(data)
    assert sorted(files) == [".eval_results/org--orders--default.yaml", ".eval_results/org--sums--a-b-c.yaml"]
    (orders,) = parse_eval_result_entries(yaml.safe_load(files[".eval_results/org--orders--default.yaml"]))
    assert (orders.dataset_id, orders.task_id, orders.dataset_revision) == ("org/orders", "default", "abc")
    assert orders.value == value_of(demo.family.verdicts[2])
    assert orders.date == "2026-11-20T21:04:41+00:00"
    (sums,) = parse_eval_result_entries(yaml.safe_load(files[".eval_results/org--sums--a-b-c.yaml"]))
    assert sums.value == value_of(demo.family.verdicts[1])
    by_name = {each.dataset_name: each for each in loaded(data, tmp_path).eval_results or ()}
    assert by_name["orders/extraction"].dataset_type == "org/orders"
    assert by_name["orders/extraction"].dataset_revision == "abc"
    assert by_name["facts/lookup"].dataset_type == "evalgate:facts/lookup"
    assert eval_results(bare(demo)) == {}


def test_two_tasks_of_one_benchmark_stay_two(demo: CardData, tmp_path: Path) -> None:
    """The hub's library groups results by dataset: two tasks of one dataset keep their names and values."""
    data = on_hub(
        demo,
        "  orders/extraction: {id: org/all, task_id: orders}",
        "  facts/lookup: {id: org/all, task_id: facts}",
    )
    found: list[EvalResult] = loaded(data, tmp_path).eval_results or []
    assert {each.dataset_name: each.metric_value for each in found if each.dataset_type == "org/all"} == {
        "orders/extraction": value_of(demo.family.verdicts[2]),
        "facts/lookup": value_of(demo.family.verdicts[3]),
    }


@pytest.mark.parametrize(("metric", "told"), [("", "names no metric"), (", metric: bleu", "names 'bleu'")])
def test_a_benchmark_says_which_metric(demo: CardData, metric: str, told: str) -> None:
    """Of several metrics none is chosen for people."""
    data = on_hub(demo, f"  arithmetic/addition: {{id: org/sums, task_id: x{metric}}}")
    with pytest.raises(ConfigError, match=f"{told}.*one of exact_match, chrf"):
        eval_results(data)


def test_a_benchmark_that_failed_has_no_result(demo: CardData) -> None:
    """An error is in no file."""
    verdicts = tuple(replace(verdict, outcome=Outcome.ERROR) for verdict in demo.family.verdicts)
    data = on_hub(demo, "  orders/extraction: {id: org/orders, task_id: default}")
    assert len(eval_results(data)) == 1
    assert eval_results(replace(data, family=replace(demo.family, verdicts=verdicts))) == {}


# -- text -------------------------------------------------------------------------------------------------------------


def test_every_section_is_there(demo: CardData) -> None:
    """The sections of Mitchell et al., in their order, and the verdict before them all."""
    text = readme(demo)
    wanted = (
        *("Model details", "Intended use", "Out-of-scope uses", "Factors and slices", "Metrics", "Evaluation data"),
        *("Training data", "Training procedure", "Quantitative analyses", "Ethical considerations", "Biases"),
        *("Limitations and caveats", "Environment", "How to reproduce", "Provenance"),
    )
    found = [title for title in headings(text) if title.startswith("### ")]
    assert found == [f"### {title}" for title in wanted]
    assert text.index("**REGRESSION**: v3 is worse than the baseline") < text.index("### Model details")


def test_what_people_state_stands_in_its_section(demo: CardData) -> None:
    """Each section that people may state shows their words, and nothing is called unstated that they said."""
    said = render(demo, Stated(sections={**SAYS, "more": "people say more"}))
    for section, words in SAYS.items():
        assert said.count(f"{words}\n") == 1, section
    assert "people say more" in said
    assert said.count("not stated") == render(demo, Stated()).count("not stated") - (len(SAYS) - 1)


def test_a_missing_section_is_not_stated(demo: CardData) -> None:
    """Where people said nothing the card says so, in every section that only people can fill."""
    said = render(demo, Stated())
    for title in ("Description", "Licence", "Contact", "Citation", "Intended use", "Out-of-scope uses", "Biases"):
        assert f"*{title}: not stated.*" in said
    for title in ("Ethical considerations", "Limitations", "Why these metrics", "Why these groups"):
        assert f"*{title}: not stated.*" in said


def test_regressions_are_named_with_their_numbers(demo: CardData) -> None:
    """Whoever reads the README alone learns what broke, by how much, where, and what could not be told."""
    said = readme(demo)
    assert "| arithmetic/addition | exact\\_match | FAILED | .876 | .936 | -6.0 pt | \\[-8.5, -3.7\\] |" in said
    assert "- arithmetic/addition::exact\\_match, REGRESSION: -6.0 pt" in said
    assert "| digits=2 | .790 | .964 | -17.4 pt | 167 |" in said
    assert "facts/lookup::exact\\_match is undecided" in said
    assert "reviews/sentiment::exact\\_match was declared and did not run" in said
    assert "ida@example.org" not in said  # who accepted a baseline is nobody's to publish
    assert "shipped on Monday" in said


def test_a_judge_shows_how_far_it_is_to_be_believed(hostile_card: Callable[..., CardData]) -> None:
    """A metric behind which a judge stands says so, and that it is uncalibrated."""
    assert "uncalibrated" in readme(bare(hostile_card("x")))


def test_the_same_data_give_the_same_bytes(demo: CardData) -> None:
    """Nothing of the hour or the machine is in it."""
    assert readme(demo) == readme(replace(demo))


# -- hostile text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", HOSTILE)
def test_nothing_hostile_acts(hostile_card: Callable[..., CardData], payload: str) -> None:
    """One text in every field that anybody but people wrote: the document has no element that a harmless text lacks."""
    said, plain = (readme(bare(hostile_card(text))) for text in (payload, "word"))
    never = {"html_block", "html_inline", "link_open", "image", "code_inline", "s_open", "hr", "code_block"}
    kinds = {token.type for token in tokens(said)}
    assert not kinds & never
    assert kinds <= {token.type for token in tokens(plain)} | {"text", "text_special"}
    assert len(headings(said)) == len(headings(plain))
    shown = "\n".join(token.content for token in tokens(said) if token.type in ("text", "text_special"))
    assert not re.search(r"\{[{%#]|:::", text_of(said))
    assert not re.search(r"(?<!\w)@\w|\w://|www\.", shown)
    assert not re.search(r"[\ud800-\udfff\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", said)


def test_people_may_write_markdown(demo: CardData) -> None:
    """Negative control: links, emphasis and HTML that people wrote in model_card.md are theirs."""
    said = readme(replace(demo, statement="## Limits\n\n[a](https://example.org) **b** <b>c</b> `d`"))
    assert {"link_open", "strong_open", "html_inline", "code_inline"} <= {token.type for token in tokens(said)}


def test_a_card_is_text_that_utf8_can_hold(demo: CardData, tmp_path: Path) -> None:
    """Half an emoji from people or models does not keep a card from being written."""
    data = replace(demo, name="half \ud83d", statement="## Limits\n\nhalf \ud83d\n")
    loaded(data, tmp_path)
    assert "half \ufffd" in readme(data)


# -- the copy ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version's folder, with its base's README in it."""
    folder = tmp_path / "runs/v3"
    (folder / "inner").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(1000))
    (folder / "inner/notes.txt").write_text("note")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# The base")
    return folder


def test_a_copy_gets_the_card(version: Path, demo: CardData, tmp_path: Path) -> None:
    """The hub's library reads the card from the copy; weights are the same, the version is as it was."""
    before = {path: path.read_bytes() for path in version.rglob("*") if path.is_file()}
    data = on_hub(demo, "  orders/extraction: {id: org/orders, task_id: default}")
    copied = copy_with_card(version, tmp_path / "out/v3", readme(data), eval_results(data))
    assert copied.path == tmp_path / "out/v3"
    assert copied.replaced == ("README.md",)
    card = ModelCard.load(copied.path / "README.md")
    assert metadata(card).model_name == "v3"
    assert "# The base" not in card.text
    assert (copied.path / "model.safetensors").read_bytes() == before[version / "model.safetensors"]
    assert (copied.path / "inner/notes.txt").read_text() == "note"
    assert (copied.path / ".eval_results/org--orders--default.yaml").is_file()
    (copied.path / "model.safetensors").write_bytes(b"changed")
    assert {path: path.read_bytes() for path in version.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["v3"]


def test_nothing_is_overwritten(version: Path, tmp_path: Path) -> None:
    """A target that is there, as a folder, a file or a dangling link, is refused; so is one inside the version."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("folder", "file", "link"):
        with pytest.raises(ConfigError, match="is there already"):
            copy_with_card(version, tmp_path / name, "card", {})
    for target in (version / "inner/out", tmp_path / "runs/x/../v3/out"):
        with pytest.raises(ConfigError, match="lies inside the version"):
            copy_with_card(version, target, "card", {})
    assert sorted(path.name for path in version.iterdir()) == ["README.md", "inner", "model.safetensors"]


def test_a_link_is_not_followed_into_a_copy(version: Path, tmp_path: Path) -> None:
    """What is published is what lies in the folder: no link, no pipe; nothing is left of the attempt."""
    (tmp_path / "secret").write_text("key")
    (version / "inner/link").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match=r"link.*no plain file"):
        copy_with_card(version, tmp_path / "out", "card", {})
    (version / "inner/link").unlink()
    os.mkfifo(version / "pipe")
    with pytest.raises(CheckpointError, match="no plain file"):
        copy_with_card(version, tmp_path / "out", "card", {})
    with pytest.raises(CheckpointError, match="could not be copied"):
        copy_with_card(tmp_path / "gone", tmp_path / "out", "card", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "secret"]


def test_the_demo_states_enough_for_a_hub(demo: CardData, tmp_path: Path) -> None:
    """Our own model_card.md makes a card with a licence and a language, and leaves nothing important unsaid."""
    statement = (ROOT / "evalsuites/model_card.md").read_text("utf-8")
    data = replace(demo, statement=statement)
    card = loaded(data, tmp_path)
    assert (card.license, card.language) == ("apache-2.0", "en")
    unstated = re.findall(r"\*(.*): not stated\.\*", readme(data))
    assert unstated == ["Contact", "Citation", "How it was made", "People's reading of the numbers"]
