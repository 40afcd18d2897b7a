"""A training configuration is composed and checked before anything is loaded; what is wrong with it is one line."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("hydra", reason="training configurations need the train extra")

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from evalgate.errors import ConfigError, EvalgateError, MissingExtraError
from evalgate.training import ranges
from evalgate.training.config import load_training
from evalgate.training.ranges import RULES, check_ranges, flat
from evalgate.training.schema import Data, Model, TrainingConfig
from evalgate.version import check_version_name

ROOT = Path(__file__).parents[3]
SFT = """
defaults:
  - evalgate
  - data: mixed
  - lora: r8
  - _self_
why: 'a reason: with a colon'
model:
  base: v1
"""
ROW = '{"prompt": "a", "completion": "b"}\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a base, data, and a configuration with groups beside it."""
    for folder in ("conf/data", "conf/lora", "v1", "data"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data/mixed.jsonl").write_text(ROW)
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    (tmp_path / "conf/sft.yaml").write_text(SFT)
    (tmp_path / "conf/data/mixed.yaml").write_text("files: [data/mixed.jsonl]\nrows: 1\n")
    (tmp_path / "conf/lora/r8.yaml").write_text("r: 8\nalpha: 16\n")
    (tmp_path / "conf/lora/r16.yaml").write_text("r: 16\nalpha: 32\n")
    return tmp_path


def load(root: Path, *overrides: str, file: str = "sft") -> TrainingConfig:
    return load_training(root / f"conf/{file}.yaml", overrides, root)


def refusal(root: Path, *overrides: str, file: str = "sft", text: str | bytes | None = None) -> str:
    """The one line with which a configuration is refused."""
    if text is not None:
        (root / f"conf/{file}.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(root, *overrides, file=file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def test_a_configuration_is_composed_of_its_groups(root: Path) -> None:
    """The file, the groups that it chooses, and the schema's defaults make one typed configuration."""
    config = load(root)
    assert config == TrainingConfig(
        why="a reason: with a colon", model=Model("v1"), data=Data(["data/mixed.jsonl"], rows=1)
    )
    assert type(config.lora).__name__ == "Lora"


def test_overrides_set_values_and_choose_groups(root: Path) -> None:
    """`lora=r16` chooses another file, `key=value` sets a value with the schema's type, the last one wins."""
    config = load(
        root, "lora=r16", "lora.dropout=0.1", "optimizer.learning_rate=1", "why='a, b'", "lora.alpha=3", "lora.alpha=4"
    )
    assert (config.lora.r, config.lora.alpha, config.lora.dropout) == (16, 4, 0.1)
    assert type(config.optimizer.learning_rate) is float
    assert config.why == "a, b"
    assert load(root, "++lora.r=3").lora.r == 3
    assert load(root, "data.rows=null").data.rows is None


def test_a_file_needs_no_groups(root: Path) -> None:
    """A single file with the schema in its defaults is enough; without the schema, it is checked all the same."""
    (root / "conf/one.yaml").write_text("model: {base: v1}\ndata: {files: [data/mixed.jsonl]}\n")
    assert load(root, file="one") == TrainingConfig(model=Model("v1"), data=Data(["data/mixed.jsonl"]))
    assert "unknown key lora.rr" in refusal(root, file="two", text="lora: {rr: 3}\n")
    assert refusal(root, "lora.r=3", file="one") == (
        f"--train-set lora.r=3: lora is not set yet. Name evalgate first in the defaults of {root}/conf/one.yaml."
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("lora.rr=3", "unknown key lora.rr. Did you mean lora.r?"),
        ("+lora.rr=3", "unknown key lora.rr. Did you mean lora.r?"),
        ("learning_rate=3", "unknown key learning_rate. Did you mean optimizer.learning_rate?"),
        ("+x.y=2", "unknown key x. There are name, why, hypothesis, method, model,"),
        ("lora=r99", "lora has no 'r99'. There are r16, r8."),
        ("optimizer=adam", "optimizer is a group of settings, expected no single value"),
        ("model=null", "model is a group of settings"),
        ("lora.r=x", "lora.r = x: expected a whole number from 1"),
        ("lora.r=8.5", "lora.r = 8.5: expected a whole number from 1"),
        ("lora.r=null", "lora.r = null: expected a whole number from 1"),
        ("lora.r=true", "lora.r = True: expected a whole number from 1"),
        ("lora.rslora=maybe", "lora.rslora = maybe: expected true or false"),
        ("data.files=a", "data.files = a: expected a list of .jsonl files"),
        ("lora.r=4,8", "Ambiguous value for argument 'lora.r=4,8'. Write key=value with one value"),
        ("+lora.r=3", "Could not append to config. An item is already at 'lora.r'"),
        ("lora.r", "cannot be read: Error parsing override 'lora.r' missing EQUAL"),
        ("lora.r=[", "cannot be read: no viable alternative"),
        ("", "cannot be read: mismatched input"),
        ("hydra.run.dir=x", "settings of Hydra itself change nothing here"),
        ("model.base=${nope}", "model.base: Interpolation key 'nope' not found"),
        ("model.base=${model.base}", "model.base: Recursive interpolation detected"),
    ],
)
def test_an_override_that_cannot_be_is_named(root: Path, override: str, said: str) -> None:
    """Unknown keys and choices, wrong types and grammar: one line that begins with what was typed."""
    message = refusal(root, override)
    assert message.startswith(f"--train-set {override or chr(39) * 2}: ")
    assert said in message


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("model: [\n", "bad.yaml:2", "not YAML: expected the node content"),
        ("why: a\nwhy: b\n", "bad.yaml:2", "not YAML: found duplicate key why"),
        ("why: !!python/object/apply:os.getcwd []\n", "bad.yaml:1", "could not determine a constructor"),
        ("defaults: [evalgate, _self_]\nlora: {rr: 3}\n", "bad.yaml", "unknown key lora.rr. Did you mean lora.r?"),
        ("defaults: [evalgate, _self_]\nlora: {r: eight}\n", "bad.yaml", "lora.r = eight: expected a whole number"),
        ("defaults: [evalgate, _self_]\nlora: null\n", "bad.yaml", "lora is a group of settings"),
        ("defaults: [evalgate, _self_]\nmodel: v1\n", "bad.yaml", "str is not a subclass of Model"),
        ("defaults: [evalgate, {optimiser: x}]\n", "bad.yaml", "from. Did you mean optimizer?"),
        ("defaults: [evalgate, {schedule: x}]\n", "bad.yaml", "no folder schedule beside it"),
        ("defaults: [evalgate, {lora: r7}]\n", "bad.yaml", "lora has no 'r7'. There are r16, r8."),
        ("defaults: [nothing]\n", "bad.yaml", "its defaults name 'nothing', and there is no such file"),
        ("defaults: 3\n", "bad.yaml", "defaults must be a list"),
        ("defaults: [{data: mixed, lora: r8}]\n", "bad.yaml", "Too many keys in default item"),
        ("- a\n- b\n", "bad.yaml", "must be a DictConfig"),
        ("", "bad.yaml", "data.files and model.base must be given"),
        ("model: {base: v1}\n", "bad.yaml", "data.files must be given"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_is_named(root: Path, text: str, place: str, said: str) -> None:
    """No YAML, unknown keys and groups, wrong types, missing values: one line with the file, and the line it has."""
    message = refusal(root, file="bad", text=text)
    assert message.startswith(f"{root}/conf/{place}: ")
    assert said in message


def test_a_fault_in_a_group_names_the_group_s_file(root: Path) -> None:
    """Whoever reads the message opens the right file, which is not the one that was typed."""
    (root / "conf/lora/r16.yaml").write_text("r: sixteen\n")
    assert refusal(root, file="x", text=SFT.replace("r8", "r16")).startswith(f"{root}/conf/lora/r16.yaml: lora.r = ")
    (root / "conf/lora/r16.yaml").write_text("r: [\n")
    assert refusal(root, "lora=r16").startswith(f"{root}/conf/lora/r16.yaml:2: not YAML")


def test_a_file_must_be_text(root: Path) -> None:
    """Bytes that are no UTF-8 are named by their offset."""
    assert "not UTF-8: byte 0xff at offset 5" in refusal(root, file="bad", text=b"why: \xff\n")


def test_a_missing_file_is_answered_by_the_nearest(root: Path) -> None:
    """A slip in the name, a folder, another suffix, and the one name that would hide the schema."""
    assert refusal(root, file="stf") == f"{root}/conf/stf.yaml: there is no such file. Did you mean sft.yaml?"
    with pytest.raises(ConfigError, match="is a folder, expected a"):
        load_training(root / "conf", [], root)
    (root / "conf/sft.yml").write_text(SFT)
    with pytest.raises(ConfigError, match="cannot be a configuration's name"):
        load_training(root / "conf/sft.yml", [], root)
    assert "would hide the schema" in refusal(root, file="evalgate", text=SFT)


def test_what_a_configuration_names_must_be_there(root: Path) -> None:
    """Base, data, template and key are looked for in the project before anything else; the nearest name helps."""
    assert refusal(root, "model.base=v2").startswith(
        "--train-set model.base=v2: model.base = v2: there is no such folder"
    )
    assert "Did you mean mixed.jsonl?" in refusal(root, "data.files=[data/mixd.jsonl]")
    assert "there is no such file" in refusal(root, "data.files=[data]")
    assert "Did you mean chat.jinja?" in refusal(root, "model.chat_template=caht.jinja")
    assert "publishing.sign_key = k.pem: there is no such file" in refusal(root, "publishing.sign_key=k.pem")
    assert "names a file twice" in refusal(root, "data.files=[data/mixed.jsonl,data/../data/mixed.jsonl]")
    assert "there is no such folder" in refusal(root, f"model.base={'x' * 5000}")
    for elsewhere in (f"org/base@{'a' * 40}", "models:/shop@champion"):
        assert load(root, f"model.base='{elsewhere}'").model.base == elsewhere


BAD: dict[str, list[Any]] = {
    "name": ["", " "],
    "method": ["Lora", "dora"],
    "model.base": ["", "a\0b"],
    "data.files": [[], [""], ["a.jsonl", "a.jsonl"]],
    "data.rows": [0, -1],
    "data.held_out": [-0.1, 1.0, float("nan")],
    "data.max_length": [7],
    "data.max_leaked": [-0.1, 1.1, float("nan")],
    "lora.r": [0, -8],
    "lora.alpha": [0],
    "lora.dropout": [-0.1, 1.0, float("nan")],
    "lora.target_modules": [[], [" "], ["q", "q"]],
    "quantization.bits": [0, 2, 16],
    "quantization.type": ["int4"],
    "optimizer.name": ["adamw_trch", "galore_adamw"],
    "optimizer.learning_rate": [0.0, -1e-3, float("inf"), float("nan")],
    "optimizer.weight_decay": [-0.1, float("inf")],
    "optimizer.beta1": [-0.1, 1.0],
    "optimizer.beta2": [-0.1, 1.0],
    "optimizer.max_grad_norm": [0.0, -1.0, float("inf")],
    "schedule.epochs": [0.0, -1.0, float("inf")],
    "schedule.max_steps": [0],
    "schedule.batch_size": [0],
    "schedule.accumulation": [0],
    "schedule.lr_scheduler": ["cosin", "reduce_lr_on_plateau"],
    "schedule.warmup": [-0.1, 1.0],
    "schedule.save_steps": [0],
    "precision.dtype": ["fp16"],
    "distribution.kind": ["dpp"],
    "distribution.processes": [0],
    "distribution.zero_stage": [0, 4],
    "distribution.device": ["gpu"],
    "distribution.threads": [0],
    **{key: [-1, 2**32] for key in ("data.shuffle_seed", "data.split_seed", "seeds.model", "seeds.data")},
    "tracking.trackers": [["mlfow"], ["wandb", "wandb"]],
    "tracking.project": [""],
    "tracking.uri": [""],
    "publishing.runs": [""],
    "publishing.sign_key": [""],
    "model.chat_template": [""],
}
SWITCHES = {"lora.rslora", "quantization.double", "precision.gradient_checkpointing", "publishing.epochs"}


@pytest.mark.parametrize("key", BAD)
def test_every_value_out_of_range_is_named(root: Path, key: str) -> None:
    """Whatever a value cannot be is refused by its key; the first of each also as it is written in a file."""
    group, _, leaf = key.rpartition(".")
    for value in BAD[key]:
        config = TrainingConfig(model=Model("v1"), data=Data(["data/mixed.jsonl"]))
        setattr(getattr(config, group) if group else config, leaf, value)
        with pytest.raises(ConfigError) as caught:
            check_ranges(config, lambda key: f"at {key}")
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("at ")
        assert leaf in str(caught.value)
    text = json.dumps(BAD[key][0]).replace("NaN", ".nan").replace("Infinity", ".inf")
    written = f"{group}: {{{leaf}: {text}}}" if group else f"{leaf}: {text}"
    kept = SFT.replace("model:\n  base: v1\n", "") + ("" if group == "model" else "model: {base: v1}\n")
    if leaf == "chat_template":
        written = written.replace("{chat", "{base: v1, chat")
    message = refusal(root, file="bad", text=f"{kept}{written}\n")
    assert message.startswith(f"{root}/conf/bad.yaml: {key} = ")


@pytest.mark.parametrize(
    "name", ["", "../x", "%2e%2e", "a\\b", "a\0b", "a/b", ".a", "x" * 300, "v3-epoch-2", "naïve", "a\nb", "-v", "a..b"]
)
def test_a_name_must_be_a_folder_s(name: str) -> None:
    """A version's name can neither leave the folder of versions, hide in it, nor take an epoch's place."""
    with pytest.raises(ConfigError, match=r"^here: ") as caught:
        check_version_name(name, "here")
    assert "\n" not in str(caught.value)


def test_a_name_is_checked_where_it_was_given(root: Path) -> None:
    """Good names pass; a bad one is named with the override that it came in."""
    for name in ("v3", "2026-03-01_sft", "V3.1+fix", "x" * 100, "epoch-2", "v3-epoch-two"):
        check_version_name(name)
    assert load(root, "name=v3").name == "v3"
    assert refusal(root, "name=../x").startswith("--train-set name=../x: '../x' is no name of a version")
    assert "kept for an epoch" in refusal(root, "name=v3-epoch-2")


def test_every_value_has_its_bad_examples() -> None:
    """The table above forgets no value of the schema."""
    assert set(BAD) | SWITCHES | {"why", "hypothesis"} == set(RULES)


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("method=lorra", "lora"),
        ("optimizer.name=adamw_trch", "adamw_torch"),
        ("schedule.lr_scheduler=cosin", "cosine"),
        ("precision.dtype=bfloat", "bfloat16"),
        ("distribution.kind=deepsped", "deepspeed"),
        ("tracking.trackers=[mlfow]", "mlflow"),
    ],
)
def test_a_slip_in_a_name_is_answered_by_the_nearest(root: Path, override: str, near: str) -> None:
    """Methods, optimizers, schedules, types, kinds and trackers are chosen by name."""
    assert f"Did you mean {near}?" in refusal(root, override)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["distribution.processes=2"], "2 processes share nothing with distribution.kind = none"),
        (["distribution.kind=ddp"], "one process of ddp shares nothing"),
        (["distribution.kind=fsdp"], "one process of fsdp shares nothing"),
        (
            ["method=qlora", "distribution.kind=fsdp", "distribution.processes=2"],
            "quantised weights cannot be sharded by fsdp",
        ),
        (
            ["method=qlora", "distribution.kind=deepspeed", "distribution.zero_stage=3"],
            "cannot be sharded by deepspeed",
        ),
        (["precision.dtype=float16", "distribution.device=cpu"], "float16 cannot be trained on the CPU"),
        (["lora.target_modules=[all-linear,q_proj]"], "all-linear stands alone"),
        (["tracking.uri=x"], "tracking.uri is MLflow's"),
    ],
)
def test_what_cannot_stand_together_is_refused(root: Path, overrides: list[str], said: str) -> None:
    """Each value could be, but not beside the other."""
    assert said in refusal(root, *overrides)


def test_one_process_may_be_deepspeeds(root: Path) -> None:
    """DeepSpeed is another optimizer even alone; two processes of anything share their work."""
    config = load(root, "distribution.kind=deepspeed")
    assert (config.distribution.kind, config.distribution.processes) == ("deepspeed", 1)
    check_ranges(load(root, "distribution.kind=fsdp", "distribution.processes=2"), str)


@pytest.mark.parametrize(
    ("override", "library", "extra"),
    [
        ("method=qlora", "bitsandbytes", "qlora"),
        ("optimizer.name=paged_adamw_8bit", "bitsandbytes", "qlora"),
        ("distribution.kind=deepspeed", "deepspeed", "deepspeed"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    root: Path, monkeypatch: pytest.MonkeyPatch, override: str, library: str, extra: str
) -> None:
    """What a method needs is looked for before a model is loaded."""
    monkeypatch.setattr(ranges, "find_spec", lambda name: object())
    load(root, override)
    monkeypatch.setattr(ranges, "find_spec", lambda name: None)
    with pytest.raises(
        MissingExtraError, match=rf"{library} is not installed. pip install 'pytest-evalgate\[{extra}\]'"
    ):
        load(root, override)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_ranges_hold_for_every_number(data: st.DataObject) -> None:
    """A law: a number is accepted exactly where the arithmetic says so, and NaN and infinity nowhere."""
    config = TrainingConfig(model=Model("v1"), data=Data(["a"]))
    group, leaf, good = data.draw(
        st.sampled_from(
            [
                ("lora", "dropout", lambda x: 0 <= x < 1),
                ("data", "held_out", lambda x: 0 <= x < 1),
                ("data", "max_leaked", lambda x: 0 <= x <= 1),
                ("optimizer", "learning_rate", lambda x: 0 < x < float("inf")),
                ("optimizer", "weight_decay", lambda x: 0 <= x < float("inf")),
                ("schedule", "warmup", lambda x: 0 <= x < 1),
                ("schedule", "epochs", lambda x: 0 < x < float("inf")),
            ]
        )
    )
    value = data.draw(st.floats() | st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1 - 2**-53]))
    setattr(getattr(config, group), leaf, value)
    if good(value):
        check_ranges(config, str)
    else:
        with pytest.raises(ConfigError, match=rf"^{group}\.{leaf}: {group}\.{leaf} = "):
            check_ranges(config, str)


@settings(deadline=None, max_examples=25)
@given(st.text(max_size=60))
def test_no_override_ends_in_a_traceback(text: str) -> None:
    """Whatever is typed after --train-set is used, or refused in one line."""
    message = ""
    try:
        load_training(ROOT / "fixtures/training/conf/sft.yaml", [text], ROOT)
    except EvalgateError as exc:
        message = str(exc)
    assert "\n" not in message


def enumerated(file: str, name: str) -> set[str]:
    """The values of an enumeration in a file of transformers, without importing it and torch."""
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the names are compared where the train extra is installed")
    tree = ast.parse(Path(spec.submodule_search_locations[0], file).read_text("utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return {ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign)}


def test_names_are_those_of_transformers() -> None:
    """The names that are checked without transformers are all of transformers' own, sorted into used and not used."""
    assert enumerated("training_args.py", "OptimizerNames") == ranges.OPTIMIZERS | ranges.OTHER_OPTIMIZERS
    assert enumerated("trainer_utils.py", "SchedulerType") == ranges.LR_SCHEDULERS | ranges.OTHER_LR_SCHEDULERS
    assert not ranges.OPTIMIZERS & ranges.OTHER_OPTIMIZERS
    assert not ranges.LR_SCHEDULERS & ranges.OTHER_LR_SCHEDULERS


def test_hydra_is_left_as_it_was(root: Path) -> None:
    """Another program's Hydra in the same process sees neither our schema nor our folder, also after an error."""
    ConfigStore.instance().store("mine", {"a": 1})
    for _ in range(2):
        load(root)
        refusal(root, "lora.rr=3")
    assert not GlobalHydra.instance().is_initialized()
    assert "mine.yaml" in ConfigStore.instance().repo
    assert "evalgate.yaml" not in ConfigStore.instance().repo


def test_a_configuration_is_composed_inside_another_program_s_hydra(root: Path) -> None:
    """A Hydra application may train: its own configuration stays the one in force."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(root / "conf/lora"), version_base="1.3"):
        assert load(root).lora.r == 8
        assert compose("r16").r == 16


def test_nothing_heavy_is_imported(root: Path) -> None:
    """Configuration and data are read without torch, transformers or numpy."""
    code = (
        "import sys; from pathlib import Path; root = Path(sys.argv[1])\n"
        "from evalgate.training.config import load_training\n"
        "from evalgate.training.data import read_data\n"
        "assert 'hydra' not in sys.modules\n"
        "read_data(load_training(root / 'conf/sft.yaml', ['lora=r16'], root), root)\n"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets', 'numpy', 'scipy', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=True)


def test_without_hydra_the_extra_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An optional library that is missing is an error that says how to get it."""
    monkeypatch.setitem(sys.modules, "hydra", None)
    with pytest.raises(MissingExtraError, match=r"hydra-core is not installed. pip install 'pytest-evalgate\[train\]'"):
        load(root)


@pytest.mark.parametrize("name", ["sft", "overfit"])
def test_our_own_configurations_are_sound(name: str) -> None:
    """What the repository ships composes without a warning, and says why it is made and what it hopes for."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = load_training(ROOT / f"fixtures/training/conf/{name}.yaml", [], ROOT)
    assert config.why
    assert config.hypothesis
    assert flat(config.as_json())["model.base"] == "fixtures/checkpoints/v1"


@pytest.mark.parametrize("group", ["model", "data", "lora", "optimizer", "schedule"])
def test_every_choice_of_our_groups_composes(group: str) -> None:
    """No file in the folders of choices is broken."""
    conf = ROOT / "fixtures/training/conf"
    choices = sorted(path.stem for path in (conf / group).glob("*.yaml"))
    assert choices
    for choice in choices:
        load_training(conf / "sft.yaml", [f"{group}={choice}"], ROOT)
