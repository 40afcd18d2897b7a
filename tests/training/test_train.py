"""`pytest --train` as a person types it: real training, the public fake engine, one small project for all tests."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from evalgate.checkpoint import Checkpoint
from evalgate.ledger import Ledger
from evalgate.preflight import read_checkpoint
from evalgate.version import Lineage
from evalgate.versions import read_lineage, verify
from tests.training.project import CONFIG, Project, make_project

TRAIN = ("evalsuites/test_words.py", "--train", "conf/tiny.yaml")


@dataclass(frozen=True)
class Made:
    """The project after two pytest processes were told at once to train the same configuration."""

    project: Project
    outputs: tuple[str, str]
    codes: tuple[int, int]

    @property
    def version(self) -> Path:
        """What they made."""
        return self.project.path / "runs/v1"

    @property
    def lineage(self) -> Lineage:
        """What it says of itself."""
        return read_lineage(self.version)

    @property
    def checkpoint(self) -> Checkpoint:
        """It, as the gate sees it."""
        return read_checkpoint(self.version, base=self.project.path / "base")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One training for all tests."""
    project = make_project(tmp_path_factory.mktemp("train") / "project")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *TRAIN]
    both = [
        subprocess.Popen(command, cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    return Made(project, (outputs[0], outputs[1]), (both[0].returncode, both[1].returncode))


@pytest.fixture
def restored(made: Made) -> Iterator[Project]:
    """The project, put back as it was after the test changed its configuration or data."""
    yield made.project
    (made.project.path / "conf/tiny.yaml").write_text(CONFIG)
    made.project.sums()


def test_two_processes_with_one_recipe_train_once(made: Made) -> None:
    """The second waits for the first and takes what it made; both gate the same version."""
    assert made.codes == (1, 1), made.outputs  # no baseline yet
    waited = [text for text in made.outputs if "not trained again" in text]
    assert len(waited) == 1
    assert sum("training v1: lora r=4 on base, 32 rows, 2 epochs" in text for text in made.outputs) == 1
    assert all("v1 words/words::exact_match NO BASELINE" in text for text in made.outputs)
    assert sorted(p.name for p in (made.project.path / "runs").iterdir()) == ["v1", "v1-epoch-1"]


def test_a_version_is_whole_and_read_only(made: Made) -> None:
    """Every file hashes to what the lineage says, nobody may write, and no trainer's leftovers came along."""
    for name in ("v1", "v1-epoch-1"):
        folder = made.project.path / "runs" / name
        assert verify(folder) == []
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o444 for path in folder.iterdir())
        assert stat.S_IMODE(folder.stat().st_mode) == 0o555
    assert {path.name for path in made.version.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "evalgate.json",
        "evalgate.log.jsonl",
        "evalgate.rows.txt",
    }


def test_the_lineage_says_what_made_it(made: Made) -> None:
    """Configuration, data, parent, losses, environment, rationale and command stand in evalgate.json."""
    lineage, base = made.lineage, read_checkpoint(made.project.path / "base")
    assert lineage.digest == made.checkpoint.digest
    assert lineage.parent
    assert (lineage.parent.path, lineage.parent.digest) == ("base", base.digest)
    assert lineage.base
    assert lineage.base["digest"] == base.digest
    run = lineage.training
    assert run
    assert run.config["lora"]["r"] == 4
    assert (run.config_file, run.data[0].path, run.data[0].rows, run.data[0].kept) == (
        "conf/tiny.yaml",
        "data/sums.jsonl",
        32,
        32,
    )
    assert len(run.losses) == lineage.step == 8
    assert lineage.epoch == 2
    assert (lineage.why, lineage.hypothesis) == ("more sums", "sums get better and nothing gets worse")
    assert "--train conf/tiny.yaml" in lineage.command
    assert "torch" in json.dumps(dict(lineage.environment))
    earlier = read_lineage(made.project.path / "runs/v1-epoch-1")
    assert earlier.training
    assert (earlier.step, earlier.training.losses) == (4, run.losses[:4])
    assert len(run.grad_norms) == len(run.learning_rates) == 8
    assert all(norm and norm > 0 for norm in run.grad_norms)
    assert earlier.training.learning_rates == run.learning_rates[:4]


def test_the_adapter_names_its_base_below_the_project(made: Made) -> None:
    """No path of this machine is in the version: PEFT and --model find the base from the project's root."""
    config = json.loads((made.version / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base"
    assert str(made.project.path) not in (made.version / "evalgate.json").read_text()


def test_the_steps_are_logged(made: Made) -> None:
    """Each optimizer step has its loss, gradient norm, learning rate, speed and times."""
    lines = [json.loads(line) for line in (made.version / "evalgate.log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 9))
    wanted = {"loss", "grad_norm", "learning_rate", "tokens_per_second", "data_seconds", "step_seconds"}
    assert all(wanted <= line.keys() for line in steps)


def test_gate_and_card_are_of_the_trained_version(made: Made) -> None:
    """Plan and verdict in the ledger name the content that was trained, and the card lies under its name."""
    entries = Ledger(made.project.path / ".evalgate/ledger.jsonl").entries()
    assert {kind: sum(e.kind == kind for e in entries) for kind in ("plan", "verdict")} == {"plan": 2, "verdict": 2}
    assert all(e.body["candidate"] == made.lineage.digest for e in entries if e.kind == "verdict")
    assert (made.project.path / "reports/v1/index.html").is_file()


def test_no_work_is_left(made: Made) -> None:
    """Resume state and exports are gone once everything is published."""
    assert [p.name for p in (made.project.path / ".evalgate/training").iterdir() if p.is_dir()] == []


def test_the_same_recipe_is_never_trained_again(made: Made) -> None:
    """Neither in another session nor under another rationale; answers come from the cache."""
    done = made.project.run(*TRAIN, "--train-set", "why=another reason")
    assert "v1 was made from the same configuration and data: not trained again" in done.stdout
    assert "no engine started" in done.stdout
    assert not (made.project.path / "runs/v2").exists()


def test_a_test_may_train(made: Made) -> None:
    """The fixture returns the published version, and `evaluate` asks it; no --model is needed."""
    done = made.project.run("evalsuites/test_rank.py")
    assert done.returncode == 0, done.stdout
    assert "not trained again" in done.stdout
    assert "40 of 40" not in done.stdout  # known answers


def test_a_suite_that_cannot_be_collected_trains_nothing(made: Made) -> None:
    """Nothing would run afterwards: the mistake is said at once."""
    broken = made.project.path / "evalsuites/test_broken.py"
    broken.write_text("import nothing_like_this\n")
    done = made.project.run("evalsuites", "--train", "conf/tiny.yaml", "--train-set", "lora.r=32")
    broken.unlink()
    assert done.returncode == 2, done.stdout
    assert "nothing_like_this" in done.stdout
    assert "training v" not in done.stdout


def test_looking_trains_nothing(made: Made) -> None:
    """With --collect-only the configuration is checked and the tests are shown."""
    done = made.project.run(*TRAIN, "--train-set", "lora.r=32", "--collect-only", "-q")
    assert done.returncode == 0
    assert "test_words.py::words::exact_match" in done.stdout
    assert not (made.project.path / "runs/v2").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("evalsuites/test_wrods.py",), 4),
        (("evalsuites/test_words.py::nothing_like_this",), 4),
        (("evalsuites", "-k", "nothing_like_this"), 5),
        (("evalsuites", "--setup-plan"), 0),
        (("evalsuites", "--fixtures"), 0),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_where_no_test_runs_nothing_is_trained(made: Made, arguments: tuple[str, ...], code: int) -> None:
    """A mistyped path, an empty -k and looks at fixtures cost no hours of training, and publish nothing unchecked."""
    done = made.project.run(*arguments, "--train", "conf/tiny.yaml", "--train-set", "lora.r=32")
    assert done.returncode == code, done.stdout + done.stderr
    assert "training v" not in done.stdout
    assert not (made.project.path / "runs/v2").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--train", "conf/tinny.yaml"), "tiny.yaml"),
        (("--train", ""), "expected a .yaml file"),
        (("--train", "conf/tiny.yaml", "--train", "conf/other.yaml"), "given twice"),
        (("--train", "conf/tiny.yaml", "--train-set", "lora.rank=4"), "lora.r"),
        (("--train", "conf/tiny.yaml", "--train-set", "lora.r=0"), "lora.r"),
        (("--train", "conf/tiny.yaml", "--train-set", "data.files=[data/summs.jsonl]"), "Did you mean sums.jsonl?"),
        (("--train", "conf/tiny.yaml", "--train-set", "model.base=bass"), "base"),
        (("--train", "conf/tiny.yaml", "--train-set", "data.max_length=20000"), "data.max_length"),
        (("--train", "conf/tiny.yaml", "--train-set", "name=v1", "--train-set", "lora.r=2"), "runs/v1 exists"),
        (
            ("--train", "conf/tiny.yaml", "--train-set", "publishing.runs=data/sums.jsonl", "--train-set", "lora.r=2"),
            "publishing.runs = data/sums.jsonl: no folder that can be written to",
        ),
        (
            (
                "--train",
                "conf/tiny.yaml",
                "--train-set",
                "publishing.sign_key=data/sums.jsonl",
                "--train-set",
                "lora.r=2",
            ),
            "sums.jsonl: could not sign",
        ),
        (("--train", "conf/tiny.yaml", "--model", "runs/v1"), "--model names one too"),
        (("--train", "conf/tiny.yaml", "--eval-records", "x"), "leave out --model and --train"),
        (("--train-set", "lora.r=4", "--model", "base"), "--train CONFIG"),
    ],
    ids=lambda value: "-".join(value[1::2])[:40] if isinstance(value, tuple) else "",
)
def test_what_is_typed_wrong_is_one_line_before_any_model(made: Made, arguments: tuple[str, ...], said: str) -> None:
    """Exit code 4 and one line that names the thing meant; nothing is trained and nothing appears."""
    done = made.project.run("evalsuites/test_words.py", *arguments)
    assert done.returncode == 4, done.stdout + done.stderr
    line = done.stderr.strip()
    assert line.startswith("ERROR: ")
    assert said in line
    assert "\n" not in line
    assert "Traceback" not in done.stdout
    assert "training v" not in done.stdout
    assert sorted(p.name for p in (made.project.path / "runs").iterdir()) == ["v1", "v1-epoch-1"]


def test_an_eval_sample_in_the_training_text_stops_it(restored: Project) -> None:
    """The sample and the row are named before anything is trained."""
    restored.sums(first="Say x. word number 7 of a list that nobody trains on: x")
    done = restored.run(*TRAIN)
    assert done.returncode == 4
    assert "words/words: 1 of 40 samples" in done.stderr
    assert "w7" in done.stderr
    assert "data/sums.jsonl:1" in done.stderr


def test_a_tolerated_leak_stands_in_the_lineage(restored: Project) -> None:
    """With data.max_leaked the training goes on; diff names another row, and another rank as the weights have it."""
    restored.sums(first="Say x. word number 7 of a list that nobody trains on: x")
    overrides = ("data.max_leaked=0.05", "lora.r=8", "publishing.epochs=false", "name=leaky")
    done = restored.run(*TRAIN, *(part for each in overrides for part in ("--train-set", each)))
    assert "words/words: 1 of 40 samples (2.50%) stand in the training text" in done.stdout
    lineage = read_lineage(restored.path / "runs/leaky")
    assert lineage.training
    assert lineage.training.leaked == {"words/words": ("w7",)}
    assert not (restored.path / "runs/leaky-epoch-1").exists()
    compared = restored.evalgate("diff", "runs/v1", "runs/leaky")
    assert compared.returncode == 1, compared.stderr
    assert "data/sums.jsonl:1 " in compared.stdout
    assert re.search(r"LoRA ranks? .*4 +8", compared.stdout), compared.stdout
    _remove(restored.path / "runs/leaky")


def test_a_trainer_that_fails_makes_every_gate_an_error(made: Made) -> None:
    """No version appears, the reason is said, the exit code is not 0; a checkpoint beside it is gated all the same."""
    done = made.project.run(*TRAIN, "--model", "base", "--train-set", "optimizer.learning_rate=1e38", "-v")
    assert done.returncode == 1, done.stdout
    assert "ERROR" in done.stdout
    assert "step" in done.stdout
    assert "exact_match[base] NO BASELINE" in done.stdout
    assert sorted(p.name for p in (made.project.path / "runs").iterdir()) == ["v1", "v1-epoch-1"]


def test_reproduce_gives_the_same_bytes(made: Made) -> None:
    """In a fresh process with other hash seeds the digest is the same."""
    done = made.project.evalgate("reproduce", "runs/v1", PYTHONHASHSEED="7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "v1 reproduced, byte for byte" in done.stdout


def test_reproduce_elsewhere_names_the_difference_and_compares_losses(made: Made) -> None:
    """Where torch may use other instructions of the processor, that is named, and the losses agree but for rounding."""
    done = made.project.evalgate("reproduce", "runs/v1", ATEN_CPU_CAPABILITY="default")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained again it is" in done.stdout
    assert "capability" in done.stdout.lower()
    assert "losses agree" in done.stdout


def test_what_changed_since_is_not_reproduced(restored: Project) -> None:
    """Other data makes another version: the file is named, and nothing is trained."""
    restored.sums(first="Q: 9+9=\\nA:")
    done = restored.evalgate("reproduce", "runs/v1")
    assert done.returncode == 2
    assert "data/sums.jsonl (was " in done.stderr


def _remove(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
