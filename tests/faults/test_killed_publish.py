"""What publishing survives: SIGKILL at any moment and a failing disk; and that these tests would notice otherwise."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalgate.errors import EvalgateError, RecordError
from evalgate.publishing import publish
from evalgate.versions import staging, verify, version_folders
from tests.faults import version_publisher
from tests.faults.test_storage_faults import FailingDisk
from tests.faults.tiny_checkpoint import HIDDEN, floats, model_tensors, safetensors_file, write_checkpoint

KILLS = 50


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a model of two megabytes, so that most of the time goes into writing."""
    write_checkpoint(tmp_path / "model")
    tensors = model_tensors() | {"model.layers.0.mlp.extra.weight": floats(131072, HIDDEN)}
    (tmp_path / "model/model.safetensors").write_bytes(safetensors_file(tensors))
    return tmp_path


def visible(root: Path) -> list[Path]:
    """What a person sees in the folder of versions."""
    runs = root / "runs"
    found = runs.iterdir() if runs.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and not path.name.startswith("."))


def broken(root: Path) -> list[str]:
    """What is wrong with what is visible."""
    return [problem for folder in visible(root) for problem in verify(folder)]


def clear(root: Path) -> None:
    """Remove the versions that are visible, so that checking them does not grow from kill to kill."""
    for folder in visible(root):
        folder.chmod(0o755)
        shutil.rmtree(folder)


def killed(root: Path, mode: str, dice: random.Random) -> set[str]:
    """The names that a publisher had acknowledged when it was killed, somewhere within its next versions."""
    command = [sys.executable, version_publisher.__file__, str(root), mode]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        early = [child.stdout.readline() for _ in range(dice.randrange(3))]
        time.sleep(dice.random() * 0.1)
        child.send_signal(signal.SIGKILL)
        return {line.strip() for line in [*early, *child.stdout] if line.endswith("\n")}


def test_a_killed_publisher_never_shows_a_partial_version(root: Path) -> None:
    """50 kills at random moments: what is visible verifies, what was acknowledged is there, and one can go on."""
    dice = random.Random(8)
    acknowledged = interrupted = 0
    for _ in range(KILLS):
        names = killed(root, "honest", dice)
        interrupted += any(path.is_dir() for path in (root / "runs").glob(f"{staging.PREFIX_OF_STAGING}*"))
        assert broken(root) == []
        assert names <= {path.name for path in visible(root)}
        acknowledged += len(names)
        clear(root)
    assert interrupted >= KILLS // 5, "too few kills fell into the middle of publishing"
    assert acknowledged >= KILLS // 5
    done = publish(root / "model", root=root, environment={})
    assert verify(done) == []
    assert list((root / "runs").iterdir()) == [done], "what the dead left was not swept"


def test_a_publisher_that_works_in_sight_is_caught(root: Path) -> None:
    """Negative control: a version that is made where people see it is seen half by the same check."""
    dice = random.Random(9)
    for _ in range(KILLS):
        killed(root, "in sight", dice)
        if broken(root):
            return
    pytest.fail("50 kills and no partial version was seen: the test above could not fail")


def test_the_staging_of_the_living_is_never_swept(root: Path) -> None:
    """A publisher that is still at work keeps its folder; once it is gone the folder goes too."""
    with staging.Staging(root / "runs") as working:
        working.write("a", [b"1"])
        publish(root / "model", root=root, environment={})
        assert (working.path / "a").read_bytes() == b"1"
        working.write("b", [b"2"])
    assert not working.path.exists()
    assert not list((root / "runs").glob(".*"))
    left = root / "runs/.staging-0123"
    (left / "sub").mkdir(parents=True)
    (left / "sub/file").write_text("")
    (left / "sub").chmod(0o555)
    left.chmod(0o555)
    (root / "runs/.staging-4567.lock").write_text("")
    staging.sweep(root / "runs")
    assert not list((root / "runs").glob(".*"))


def test_a_failing_disk_never_shows_half_a_version(root: Path) -> None:
    """Whichever call fails, by a full disk or an I/O error: nothing or all is visible, one line, and one can go on."""
    write_checkpoint(root / "small")
    trials = 0
    for number, for_good in ((errno.ENOSPC, True), (errno.EIO, False)):
        for k in range(1, 1000):
            disk = DiskOfVersions(k, number, for_good=for_good)
            said = None
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(staging, "os", disk)
                try:
                    publish(root / "small", root=root, environment={})
                except EvalgateError as error:
                    said = str(error)
            assert said is None or (os.strerror(number) in said and "\n" not in said)
            assert broken(root) == []
            assert len(visible(root)) <= 1
            assert said is not None or len(visible(root)) == 1
            assert publish(root / "small", root=root, environment={}) in version_folders(root / "runs")
            assert not list((root / "runs").glob(".*"))
            clear(root)
            if disk.calls < k:
                assert said is None
                break
            trials += 1
    assert trials >= 30


class DiskOfVersions(FailingDisk):
    """The same for the calls of a publisher; writes are whole, since one file is large."""

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in {"open", "write", "fsync", "rename", "mkdir", "makedirs", "chmod"}:
            return real

        def call(*args: object, **options: object) -> object:
            self.calls += 1
            if self.calls == self.fails_at or (self.for_good and self.calls > self.fails_at):
                if name == "write":  # a disk that fills up takes a part
                    real(args[0], bytes(args[1])[: len(args[1]) // 3])  # type: ignore[arg-type, call-overload]
                raise OSError(self.number, os.strerror(self.number))
            return real(*args, **options)

        return call


def test_a_version_that_the_disk_did_not_confirm_is_said_to_stand_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fsync after the rename fails: the version is there, and the error says so."""
    real = staging._sync

    def sync(path: Path) -> None:
        if path == root / "runs":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(path)

    monkeypatch.setattr(staging, "_sync", sync)
    with pytest.raises(RecordError, match="stands there whole"):
        publish(root / "model", root=root, environment={})
    assert [path.name for path in visible(root)] == ["v1"]
    assert broken(root) == []
