"""From a configuration to a recipe: what is checked, what the key depends on, and which name a version gets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evalgate.errors import CheckpointError, ConfigError, InputError, TrainingError
from evalgate.finetune import Recipe, finetune, make, prepare, publish_exports, release
from evalgate.finetune.recipe import NAME, described
from evalgate.training.job import Export, Job, Trained
from evalgate.versions import read_lineage
from tests.training.project import V1, Project, make_project

V2 = V1.parent / "v2"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that could train."""
    return make_project(tmp_path / "project")


def recipe(project: Project, *overrides: str) -> Recipe:
    """What its configuration means, with changes."""
    root = project.path
    return prepare(root / "conf/tiny.yaml", overrides, root=root, state=root / ".evalgate")


def export(recipe: Recipe, folder: Path) -> Trained:
    """What a trainer would have left: the fixtures' adapter after one epoch and at the end."""
    recipe.folder.mkdir(parents=True, exist_ok=True)
    (recipe.folder / "log.jsonl").write_text('{"kind": "end"}\n')
    exports = []
    for number, name in enumerate(("final", "epoch-1")):
        shutil.copytree(V2, folder / name)
        exports.append(Export(name, folder / name, 2.0 - number, 8 - 4 * number))
    losses = tuple(1 / step for step in range(1, 9))
    return Trained(tuple(exports), losses, tuple(1.0 for _ in losses), losses, 0.25, 3.0, {"threads": 1}, {})


@pytest.mark.parametrize(
    "override",
    ["lora.r=8", "optimizer.learning_rate=1e-4", "seeds.model=1", "schedule.batch_size=4", "data.rows=30"],
)
def test_what_decides_the_weights_is_in_the_key(project: Project, override: str) -> None:
    """Another value of it is another training."""
    assert recipe(project).key != recipe(project, override).key


@pytest.mark.parametrize(
    "override",
    [
        *("name=mine", "why=because", "hypothesis=none", "tracking.project=x", "publishing.epochs=false"),
        *("data.max_leaked=0.5", "schedule.save_steps=2"),
    ],
)
def test_what_does_not_decide_the_weights_is_not(project: Project, override: str) -> None:
    """The same weights are never trained twice because of a word about them."""
    assert recipe(project).key == recipe(project, override).key


def test_the_key_is_of_content_and_not_of_paths(project: Project) -> None:
    """Data and base under other names are the same training; another row, or another weight, is not."""
    before = recipe(project).key
    (project.path / "data/sums.jsonl").rename(project.path / "data/other.jsonl")
    (project.path / "base").rename(project.path / "elsewhere")
    moved = recipe(project, "data.files=[data/other.jsonl]", "model.base=elsewhere")
    assert moved.key == before
    project.sums(first="Q: 9+9=\\nA:")
    assert recipe(project, "model.base=elsewhere").key != before


def test_a_base_with_other_content_is_another_training(project: Project) -> None:
    """The parent's digest is in the key, though its path is not."""
    before = recipe(project).key
    config = json.loads((project.path / "base/config.json").read_text())
    (project.path / "base/config.json").write_text(json.dumps({**config, "of_test": 1}))
    assert recipe(project).key != before


def test_names_are_reserved_and_counted_on(project: Project) -> None:
    """Without a name a recipe gets the next number, keeps it, and no other recipe gets it meanwhile."""
    first, second = recipe(project), recipe(project, "lora.r=8")
    assert (first.name, second.name) == ("v1", "v2")
    assert recipe(project).name == "v1"
    (project.path / "runs/v7-epoch-1").mkdir(parents=True)
    assert recipe(project, "lora.r=2").name == "v8"
    (project.path / "runs/v1").mkdir()
    assert recipe(project).name == "v9"
    assert (first.folder / NAME).read_text() == "v9"


def test_a_name_is_given_back_where_nothing_was_trained(project: Project) -> None:
    """Looking leaves no gap in the numbers; a training that has begun keeps its name."""
    first = recipe(project)
    release(first)
    assert not first.folder.exists()
    other = recipe(project, "lora.r=8")
    assert other.name == "v1"
    (other.folder / "job.json").write_text("{}")
    release(other)
    assert (other.folder / NAME).read_text() == "v1"


def test_a_name_that_another_version_has_is_refused(project: Project) -> None:
    """Versions are never overwritten, and that is said before anything is trained."""
    (project.path / "runs/mine").mkdir(parents=True)
    with pytest.raises(ConfigError, match="runs/mine exists"):
        recipe(project, "name=mine")


def test_an_epoch_of_another_training_has_the_name_too(project: Project, tmp_path: Path) -> None:
    """A training that was killed while it published has left an epoch: its own recipe goes on, another is refused."""
    first = recipe(project, "name=mine")
    trained = export(first, tmp_path / "exports")
    early = trained.exports[1]
    publish_exports(first, replace(trained, exports=(early,)), first.folder, runs=first.runs)
    with pytest.raises(ConfigError, match="runs/mine-epoch-1 exists, made by another"):
        recipe(project, "name=mine", "lora.r=8")
    again = recipe(project, "name=mine")
    assert publish_exports(again, trained, again.folder, runs=again.runs)[-1].name == "mine"


def test_a_link_to_nothing_has_a_name(project: Project) -> None:
    """An alias whose version is gone is said before anything is trained, not when the name is wanted."""
    (project.path / "runs").mkdir()
    (project.path / "runs/mine").symlink_to("v99")
    with pytest.raises(ConfigError, match="runs/mine exists"):
        recipe(project, "name=mine")


def test_a_reservation_that_was_not_written_is_none(project: Project) -> None:
    """A process that died, or a disk that was full, between the file and the name in it: the next one writes it."""
    first = recipe(project)
    (first.folder / NAME).write_text("")
    assert recipe(project).name == "v1"
    assert (first.folder / NAME).read_text() == "v1"


def test_a_version_is_found_whatever_its_name(project: Project, tmp_path: Path) -> None:
    """Only a number after -epoch- makes an epoch."""
    found = recipe(project, "name=two-epoch-run")
    publish_exports(found, export(found, tmp_path / "exports"), found.folder, runs=found.runs)
    assert recipe(project).name == "two-epoch-run"
    assert recipe(project, "name=two-epoch-run").published() == project.path / "runs/two-epoch-run"


def test_the_code_is_that_of_when_training_began(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """People go on working while a model is trained: what they commit meanwhile did not train it."""

    def commit(message: str) -> str:
        git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(project.path))
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    def train(job: Job, _: object) -> Trained:
        commit("meanwhile")
        return export(found, project.path.parent / "exports")

    subprocess.run(["git", "init", "-q", str(project.path)], check=True)
    before, found = commit("before"), recipe(project)
    monkeypatch.setattr(make, "train", train)
    assert read_lineage(finetune(found)).code["commit"] == before


def test_what_a_killed_process_left_is_removed(project: Project, tmp_path: Path) -> None:
    """It had published everything and was killed before it removed its work: who finds the version removes it."""
    found = recipe(project)
    publish_exports(found, export(found, tmp_path / "exports"), found.folder, runs=found.runs)
    assert finetune(recipe(project)) == project.path / "runs/v1"
    assert not found.folder.exists()


def test_a_state_folder_that_cannot_be_written_is_one_line(project: Project) -> None:
    """No traceback for a disk."""
    (project.path / ".evalgate").write_text("")
    with pytest.raises(InputError, match=r"naming a version: (File exists|Not a directory)") as caught:
        recipe(project)
    assert "\n" not in str(caught.value)


def test_work_that_cannot_be_written_is_a_failed_training(project: Project) -> None:
    """It says where, and nothing is published."""
    found = recipe(project)
    (found.folder / "lock").mkdir()
    with pytest.raises(TrainingError, match=r"lock: could not be written: Is a directory"):
        finetune(found)
    assert not found.runs.exists()


def test_an_adapter_keeps_its_rank(project: Project) -> None:
    """A configuration that states another would stand in the lineage and be wrong."""
    shutil.copytree(V2, project.path / "v2")
    config = json.loads((project.path / "v2/adapter_config.json").read_text())
    (project.path / "v2/adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "../base"}))
    with pytest.raises(ConfigError, match=r"Write lora\.r=8 lora\.alpha=16 lora\.dropout=0"):
        recipe(project, "model.base=v2")


def test_an_adapter_can_be_trained_on(project: Project) -> None:
    """The parent is the adapter, the base is its base; full fine-tuning of an adapter is refused."""
    shutil.copytree(V2, project.path / "v2")
    config = json.loads((project.path / "v2/adapter_config.json").read_text())
    (project.path / "v2/adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "../base"}))
    found = recipe(project, "model.base=v2", "lora.r=8", "lora.alpha=16")
    assert (found.parent.kind, found.parent.path, found.base.name) == ("adapter", "v2", "base")
    assert found.adapter
    with pytest.raises(ConfigError, match="is an adapter"):
        recipe(project, "model.base=v2", "method=full")


def test_messages_need_a_chat_template(project: Project) -> None:
    """A base without one is refused, unless the configuration brings one."""
    row = {"messages": [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]}
    (project.path / "data/sums.jsonl").write_text(json.dumps(row) + "\n")
    assert recipe(project, "schedule.batch_size=1").data.files[0].format == "messages"
    template = project.path / "base/chat_template.jinja"
    template.rename(project.path / "template.jinja")
    with pytest.raises(ConfigError, match="no chat template"):
        recipe(project, "schedule.batch_size=1")
    assert recipe(project, "schedule.batch_size=1", "model.chat_template=template.jinja").template


def test_examples_longer_than_the_base_can_hold_are_refused(project: Project) -> None:
    """The context of the base is the limit."""
    with pytest.raises(ConfigError, match="holds 16384 tokens"):
        recipe(project, "data.max_length=16385")


def test_a_hostile_base_is_refused_before_anything_loads_it(project: Project) -> None:
    """Preflight sees the base first, as it sees every checkpoint."""
    (project.path / "base/modeling.py").write_text("raise SystemExit\n")
    with pytest.raises(CheckpointError, match="is code"):
        recipe(project)


def test_every_export_becomes_a_version_the_final_one_last(project: Project, tmp_path: Path) -> None:
    """Epochs are siblings with the losses up to them; a second publishing of the same changes nothing."""
    found = recipe(project)
    trained = export(found, tmp_path / "exports")
    versions = publish_exports(
        found, trained, found.folder, runs=found.runs, leaked={"words/words": ["w1"]}, command="pytest --train"
    )
    assert [version.name for version in versions] == ["v1-epoch-1", "v1"]
    early, final = map(read_lineage, versions)
    assert early.training
    assert final.training
    assert (early.training.losses, early.training.held_out_loss) == (trained.losses[:4], None)
    assert (final.training.losses, final.training.held_out_loss) == (trained.losses, 0.25)
    assert final.training.leaked == {"words/words": ("w1",)}
    assert final.command == "pytest --train"
    assert found.published() == versions[-1]
    stamps = [(version / "evalgate.json").stat().st_mtime_ns for version in versions]
    assert publish_exports(found, trained, found.folder, runs=found.runs) == versions
    assert stamps == [(version / "evalgate.json").stat().st_mtime_ns for version in versions]


def test_a_base_outside_of_the_project_is_named_as_it_lies(project: Project, tmp_path: Path) -> None:
    """The adapter must find it again: never the trainer's own work folder, which is removed."""
    (project.path / "base").rename(tmp_path / "outside")
    found = recipe(project, f"model.base={tmp_path / 'outside'}")
    trained = export(found, tmp_path / "exports")
    for each in trained.exports:
        config = json.loads((each.folder / "adapter_config.json").read_text())
        work = str(found.folder / "base/view")
        (each.folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": work}))
    version = publish_exports(found, trained, found.folder, runs=found.runs)[-1]
    config = json.loads((version / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "outside")


def test_a_recipe_in_one_line(project: Project) -> None:
    """Method, rank, base, rows, epochs, and who shares the work."""
    assert described(recipe(project)) == "lora r=4 on base, 32 rows, 2 epochs"
    shared = recipe(project, "method=full", "distribution={kind: ddp, processes: 2, device: cpu}")
    assert described(shared) == "full on base, 32 rows, 2 epochs, ddp × 2"


@pytest.mark.parametrize("name", ["torch", "transformers", "trl", "mlflow", "wandb", "pandas"])
def test_preparing_is_light(name: str) -> None:
    """The module itself brings none of the heavy libraries into the pytest process."""
    code = f"import evalgate.finetune, sys; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_base_is_the_users_mistake(project: Project) -> None:
    """One line, of the kind that ends a run with exit code 4."""
    with pytest.raises(InputError):
        recipe(project, "model.base=nowhere")
