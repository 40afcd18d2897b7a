"""Publishing: what is copied, what is refused, and that a version appears once, whole and read-only."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import evalgate
from evalgate.errors import CheckpointError, ConfigError, MissingExtraError, RecordError
from evalgate.preflight import read_checkpoint
from evalgate.publishing import publish
from evalgate.version import LINEAGE
from evalgate.versions import file_digest, read_lineage, verify, verify_signature, version_folders
from tests.faults.tiny_checkpoint import shard, write_json
from tests.unit.tiny_versions import PARENT, make_project, training, version


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


def test_a_version_is_a_plain_folder_and_its_lineage(root: Path) -> None:
    """The files that an engine may see, evalgate.json, and nothing else; the digest is that of preflight."""
    made = publish(
        root / "lora", root=root, parent=PARENT, training=training(), epoch=1.0, step=2, why="try", hypothesis="better"
    )
    lineage = read_lineage(made)
    assert made == root / "runs/v1"
    assert {path.name for path in made.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", LINEAGE}
    assert lineage.digest == read_checkpoint(root / "lora").digest == read_checkpoint(made, base=root / "base").digest
    assert lineage.files == {name: file_digest(made / name) for name in lineage.files}
    assert (lineage.name, lineage.kind, lineage.epoch, lineage.step) == ("v1", "adapter", 1.0, 2)
    assert (lineage.why, lineage.hypothesis, lineage.parent) == ("try", "better", PARENT)
    assert lineage.base == {"digest": read_checkpoint(root / "base").digest, "name": "base", "path": "base"}
    assert lineage.training == training()
    assert verify(made) == []


def test_leftovers_of_trainers_stay_behind(root: Path) -> None:
    """README, optimizer and trainer state are dropped, and so is an evalgate.json from elsewhere."""
    for name in ("README.md", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", LINEAGE):
        (root / "base" / name).write_text("{}")
    (root / "base/checkpoint-7").mkdir()
    (root / "base/checkpoint-7/trainer_state.json").write_text("{}")
    made = publish(root / "base", root=root)
    expected = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in made.iterdir()} == expected | {LINEAGE}


def test_shards_come_along(root: Path) -> None:
    """Weights in several files are copied with their index."""
    shard(root / "base")
    made = publish(root / "base", root=root)
    assert len(list(made.glob("model-*.safetensors"))) == 2
    assert read_checkpoint(made).digest == read_checkpoint(root / "base").digest


def test_the_adapter_configuration_is_canonical(root: Path) -> None:
    """Keys and sets in one order, the base relative to the project: two trainers' files become the same bytes."""
    first = publish(root / "lora", root=root)
    config = json.loads((root / "lora/adapter_config.json").read_text())
    config["target_modules"].reverse()
    config["base_model_name_or_path"] = "../base"
    write_json(root / "lora/adapter_config.json", dict(reversed(config.items())))
    second = publish(root / "lora", root=root)
    written = json.loads((second / "adapter_config.json").read_text())
    assert (first / "adapter_config.json").read_bytes() == (second / "adapter_config.json").read_bytes()
    assert written["target_modules"] == ["q_proj", "up_proj"]
    assert list(written) == sorted(written)
    assert written["base_model_name_or_path"] == "base"


def test_a_base_outside_the_project_stays_as_it_was_given(root: Path, tmp_path: Path) -> None:
    """An absolute path to a base elsewhere is kept; a relative one, which the move would bend, becomes absolute."""
    (root / "base").rename(tmp_path / "base")
    for stated in (str(tmp_path / "base"), "../../base"):
        config = json.loads((root / "lora/adapter_config.json").read_text())
        write_json(root / "lora/adapter_config.json", {**config, "base_model_name_or_path": stated})
        made = publish(root / "lora", root=root)
        assert json.loads((made / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
            tmp_path / "base"
        )


def test_full_weights_get_the_tokenizer_byte_for_byte(root: Path) -> None:
    """Where the trainer saved none; one that it saved stays."""
    (bare := root / "bare").mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (bare / name).write_bytes((root / "base" / name).read_bytes())
    made = publish(bare, root=root, tokenizer_from=root / "base")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (made / name).read_bytes() == (root / "base" / name).read_bytes()
    assert read_lineage(made).digest == read_checkpoint(root / "base").digest
    own = json.loads((root / "base/tokenizer.json").read_text())
    write_json(bare / "tokenizer.json", {**own, "version": "2.0"})
    assert json.loads((publish(bare, root=root, tokenizer_from=root / "base") / "tokenizer.json").read_text()) == {
        **own,
        "version": "2.0",
    }


def test_full_weights_without_a_tokenizer_are_refused(root: Path) -> None:
    """No tokenizer and none lent: preflight's error, of the folder that people know, and nothing appears."""
    (root / "base/tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"base: has no tokenizer") as caught:
        publish(root / "base", root=root)
    assert ".staging" not in str(caught.value)
    assert list((root / "runs").iterdir()) == []


@pytest.mark.parametrize("name", ["modeling.py", "kernel.so"])
def test_code_is_never_published(root: Path, name: str) -> None:
    """A folder with code is refused, nothing appears."""
    (root / "lora" / name).write_text("")
    with pytest.raises(CheckpointError, match="is code"):
        publish(root / "lora", root=root)
    assert version_folders(root / "runs") == ()


def test_nan_weights_are_never_published(root: Path) -> None:
    """Weights that diverged are refused, and no staging is left."""
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        version(root, value=float("nan"))
    assert list((root / "runs").iterdir()) == []


def test_a_version_is_read_only(root: Path) -> None:
    """Files 0444, folders 0555."""
    made = publish(root / "base", root=root)
    assert stat.S_IMODE(made.stat().st_mode) == 0o555
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()} == {0o444}


def test_a_name_is_used_once(root: Path) -> None:
    """Other weights under a taken name are refused, what is there is untouched; a file, a link, an empty folder too."""
    made = version(root, name="v7")
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    with pytest.raises(ConfigError, match="with other content"):
        version(root, value=0.5, name="v7")
    with pytest.raises(ConfigError, match="from another training"):
        version(root, name="v7", training=training())
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    (root / "runs/file").write_text("")
    (root / "runs/link").symlink_to("v7")
    (root / "runs/empty").mkdir()
    for name in ("file", "empty"):
        with pytest.raises(ConfigError, match="the name is taken"):
            version(root, name=name)
    with pytest.raises(ConfigError, match="with other content"):
        version(root, value=0.5, name="link")
    assert [path for path in (root / "runs").iterdir() if path.name.startswith(".")] == []


def test_publishing_the_same_again_is_harmless(root: Path) -> None:
    """The same weights of the same training under the same name are the version that is there."""
    made = version(root, name="v7", training=training())
    stamp = (made / LINEAGE).stat().st_mtime_ns
    assert version(root, name="v7", training=training()) == made
    assert (made / LINEAGE).stat().st_mtime_ns == stamp


def test_numbers_go_up(root: Path) -> None:
    """Without a name the next number, above those of epochs too."""
    (root / "runs").mkdir()
    assert [version(root).name, version(root).name] == ["v1", "v2"]
    version(root, name="v8-epoch-2")
    version(root, name="other")
    assert version(root).name == "v9"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../v1",
        "a/b",
        "%2e%2e",
        "a\\b",
        "v\0",
        "v" * 300,
        ".hidden",
        "aliases.jsonl",
        "-epoch-1",
        "é",
        "a b",
    ],
)
def test_bad_names_are_refused(root: Path, name: str) -> None:
    """A name that could leave the folder or hide in it: one line, nothing appears."""
    with pytest.raises(ConfigError) as caught:
        version(root, name=name)
    assert "\n" not in str(caught.value)
    assert not (root / "runs").exists()


def test_extra_files_are_part_of_the_version(root: Path) -> None:
    """They are hashed with the rest, and cannot take the place of a file of the model."""
    made = publish(root / "lora", root=root, extra={"evalgate.rows.txt": b"0 a:1\n"})
    assert (made / "evalgate.rows.txt").read_bytes() == b"0 a:1\n"
    assert "evalgate.rows.txt" in read_lineage(made).files
    with pytest.raises(ConfigError, match="already"):
        publish(root / "lora", root=root, extra={"adapter_config.json": b"{}"})
    with pytest.raises(ConfigError, match="no name"):
        publish(root / "lora", root=root, extra={"../x": b""})


def test_a_lineage_that_json_cannot_hold_is_refused(root: Path) -> None:
    """A loss that is no number never becomes a version."""
    with pytest.raises(RecordError, match="finite numbers"):
        version(root, training=training(losses=[float("nan")]))
    assert version_folders(root / "runs") == ()


def test_the_state_of_the_code_is_kept(root: Path) -> None:
    """Commit, dirtiness and a digest that changes with what is not committed; versions themselves are no code."""
    assert read_lineage(version(root)).code == {}
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    (root / "code.py").write_text("1\n")
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "first")):
        subprocess.run([*git, *command], cwd=root, check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True).stdout
    publish(root / "lora", root=root)
    clean = read_lineage(publish(root / "lora", root=root)).code
    assert clean == {"commit": head.strip(), "dirty": False, "diff": None}
    found = []
    for text in ("2\n", "3\n"):
        (root / "code.py").write_text(text)
        found.append(read_lineage(publish(root / "lora", root=root)).code)
    assert [code["dirty"] for code in found] == [True, True]
    assert len({code["diff"] for code in found}) == 2
    elsewhere = publish(root / "lora", root=root, runs=str(root.parent / "elsewhere"))
    assert elsewhere.parent == root.parent / "elsewhere"
    assert read_lineage(elsewhere).code["commit"] == head.strip()


def test_a_bare_publish_says_what_is_installed(root: Path) -> None:
    """Without an environment from a trainer: interpreter and package versions, importing none of them."""
    code = (
        "import sys; from evalgate import publish; print(publish(sys.argv[1], root=sys.argv[2]));"
        "assert not {'torch', 'transformers', 'peft', 'hydra'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root / "lora"), str(root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    environment = read_lineage(Path(done.stdout.strip())).environment
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "torch" in environment["packages"]


def test_publish_is_public() -> None:
    """`evalgate.publish` is the function, whatever was imported before."""
    assert evalgate.publish is publish


def _race(root: str) -> list[str]:
    from evalgate.publishing import publish

    return [publish(Path(root) / "lora", root=root, environment={}).name for _ in range(8)]


def test_two_publishers_never_take_the_same_name(root: Path) -> None:
    """Two processes at once, without names: every version is whole and has a number of its own."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        one, two = pool.map(_race, [str(root)] * 2)
    assert sorted([*one, *two]) == sorted(f"v{n}" for n in range(1, 17))
    assert len(version_folders(root / "runs")) == 16
    assert [problem for folder in version_folders(root / "runs") for problem in verify(folder)] == []


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A fresh pair of keys: private, public."""
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec", reason="the extra `sign`")
    from cryptography.hazmat.primitives import serialization as s

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_a_signature_holds_for_every_byte(root: Path) -> None:
    """Made before the rename, verified with the public key; another key, a changed byte and no signature are told."""
    pytest.importorskip("model_signing", reason="the extra `sign`")
    private, public = make_keys(root, "one")
    _, stranger = make_keys(root, "two")
    made = version(root, sign_key=private)
    assert verify_signature(made, public) is None
    assert verify(made) == []
    assert "does not hold" in str(verify_signature(made, stranger))
    assert "is not signed" in str(verify_signature(version(root), public))
    content = (made / LINEAGE).read_bytes()
    (made / LINEAGE).chmod(0o644)
    (made / LINEAGE).write_bytes(content.replace(b'"why": ""', b'"why": "x"'))
    assert "does not hold" in str(verify_signature(made, public))
    with pytest.raises(ConfigError, match="no public key"):
        verify_signature(made, private)


def test_a_bad_key_publishes_nothing(root: Path) -> None:
    """A key that is not there or is none: one line, no version."""
    pytest.importorskip("model_signing", reason="the extra `sign`")
    for key in (root / "nothing.pem", root / "pyproject.toml"):
        with pytest.raises(ConfigError, match="could not sign"):
            version(root, sign_key=key)
    assert version_folders(root / "runs") == ()


def test_signing_names_its_extra(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without model-signing the error says what to install."""
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(MissingExtraError, match=r"pytest-evalgate\[sign\]"):
        version(root, sign_key=root / "key.pem")


def test_digests_are_of_content(root: Path) -> None:
    """The same folder published twice has one digest and two names."""
    one, two = read_lineage(version(root)), read_lineage(version(root))
    assert (one.digest, one.files) == (two.digest, two.files)
    assert one.name != two.name
