"""A process without a network that can write nowhere but where it may: what it tried to reach, and what it left.

As a program it runs inside of new namespaces for network and mounts: it switches the loopback on, makes all that is
mounted read-only but for the folders that are named, runs a command, and reports what the kernel counted meanwhile:
packets without a way out, which every attempt to reach another machine is here, name look-ups too.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

NAMESPACES = (["unshare", "--mount", "--net"], ["unshare", "--mount", "--net", "--user", "--map-root-user"])
"""As root, and as anybody where the kernel allows that."""
SHARED_MEMORY = "/dev/shm"
# Mounts that hold no files of anybody.
KERNELS = {"proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue", "securityfs", "debugfs", "tracefs"}
SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x1 | 0x40


@dataclass(frozen=True)
class Sealed:
    """What came of a command.

    Attributes:
        code: exit status.
        out: of stdout and stderr together.
        lost: packets that found no way out, or nobody at a port of this machine.
        shared: what lies in the shared memory afterwards.
    """

    code: int
    out: str
    lost: int
    shared: Sequence[str]


def sealed(command: Sequence[str], cwd: Path, writable: Sequence[Path], environ: Mapping[str, str]) -> Sealed:
    """Run a command without a network, where nothing but some folders can be written to.

    Args:
        command: absolute.
        cwd: where it runs.
        writable: folders.
        environ: all of its variables.

    Raises:
        AssertionError: the kernel permits no such namespaces: what was to be shown is not shown.
    """
    with TemporaryDirectory(prefix="sealed-") as folder:
        report = Path(folder) / "report.json"
        inner = [sys.executable, "-P", __file__, str(report), json.dumps([str(path) for path in [*writable, folder]])]
        done = subprocess.run(
            [*_namespaces(), *inner, *command], cwd=cwd, env=dict(environ), capture_output=True, text=True, check=False
        )
        assert report.exists(), f"nothing was sealed: {done.stdout}{done.stderr}"
        return Sealed(**json.loads(report.read_text("utf-8")))


def _namespaces() -> list[str]:
    said = ""
    for command in NAMESPACES:
        tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return command
        said += tried.stderr
    raise AssertionError(f"the kernel permits no namespaces, so nothing is known about the network: {said}")


def main(report: str, writable: str, *command: str) -> None:
    """Seal this process, run the command, and report."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP_RUNNING))
    _mount("--make-rprivate", "/")
    kept = json.loads(writable)
    for folder in kept:
        _mount("--bind", folder, folder)
    _mount("-t", "tmpfs", "tmpfs", SHARED_MEMORY)
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        _, place, kind, options, *_ = line.split()
        if kind not in KERNELS and place not in (*kept, SHARED_MEMORY) and "rw" in options.split(","):
            _mount("-o", "remount,bind,ro", place)
    os.chdir(os.getcwd())  # into the folder as it is mounted now
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    told = Sealed(done.returncode, done.stdout, _lost(), os.listdir(SHARED_MEMORY))
    Path(report).write_text(json.dumps(vars(told)), "utf-8")


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def _lost() -> int:
    """Of IPv4 and IPv6: no route, or nobody at the port (UDP: a resolver of this machine)."""
    lines = [line.split() for line in Path("/proc/net/snmp").read_text("utf-8").splitlines()]
    old = {f"{names[0]}{name}": int(value) for names, values in zip(lines[::2], lines[1::2], strict=True)
           for name, value in zip(names[1:], values[1:], strict=True)}  # fmt: skip
    new = dict(line.split() for line in Path("/proc/net/snmp6").read_text("utf-8").splitlines())
    return old["Ip:OutNoRoutes"] + old["Udp:NoPorts"] + int(new["Ip6OutNoRoutes"]) + int(new["Udp6NoPorts"])


if __name__ == "__main__":
    main(*sys.argv[1:])
