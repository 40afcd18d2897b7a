"""A session's words to its CI: the comment beside the cards, and what GitHub Actions and GitLab CI read.

Nothing here changes a verdict or an exit code. A file that cannot be written is said in a line; the exit code still
says what came out, and what an earlier session left is gone from the start, so nothing old passes for this one's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evalgate.cards import CI, COMMENT, relative
from evalgate.config import Config, load_config, project_root
from evalgate.errors import EvalgateError, InputError
from evalgate.plugin import options
from evalgate.plugin.items import gated_run
from evalgate.plugin.results import results_of
from evalgate.report.ci import Links, Place, Told, annotate, comment, github, gitlab
from evalgate.report.markdown import inline
from evalgate.report.terminal import safe
from evalgate.store import write_atomically
from evalgate.text import typed

if TYPE_CHECKING:
    from evalgate.session import Session

_Ending = pytest.ExitCode | int | None


def tell(config: pytest.Config, inner: Generator[None, _Ending, _Ending]) -> Generator[None, _Ending, _Ending]:
    """Around the whole session, so that the summary also says why there was nothing to gate.

    Args:
        config: of the session.
        inner: what else is around it.
    """
    if options.only_looks(config) or config.option.help or config.option.version:
        return (yield from inner)
    root = project_root(config.invocation_params.dir)
    settings = _settings(root, options.overrides(config))
    reports = root / settings.reports
    for name in (COMMENT, f"{CI}/{gitlab.CODE_QUALITY}", f"{CI}/{gitlab.ANNOTATIONS}"):
        with suppress(OSError):
            (reports / name).unlink(missing_ok=True)
    try:
        code = yield from inner
    except BaseException as error:
        _tell(config, error, settings, root)
        raise
    _tell(config, code, settings, root)
    return code


def _settings(root: Path, overrides: Mapping[str, object]) -> Config:
    """Those in force; the defaults where they cannot be read, which is why the session fails."""
    try:
        return load_config(root, overrides)
    except InputError:
        return Config()


def _tell(config: pytest.Config, ended: BaseException | _Ending, settings: Config, root: Path) -> None:
    run = gated_run(config)
    session: Session | None = getattr(run, "session", None)
    if session is None and not isinstance(ended, BaseException):  # such as --markers
        return
    kind = chosen(settings.ci, os.environ)
    workspace = _workspace(kind, os.environ) or root
    told = _told(config, ended, workspace, root, kind)
    path = root / settings.reports / COMMENT
    _write(path, comment(told).encode("utf-8", "replace"))
    if kind == "github":
        _to_github(told, relative(workspace, path))
    elif kind == "gitlab":
        folder, found = path.parent / CI, annotate(told)
        elsewhere = safe(f"{told.folder}{settings.suites}", 4_096)
        _write(folder / gitlab.CODE_QUALITY, gitlab.code_quality(found, elsewhere))
        _write(folder / gitlab.ANNOTATIONS, gitlab.annotations_report(told))


def chosen(setting: str, environ: Mapping[str, str]) -> str:
    """Whose files are written: `github`, `gitlab` or `none`."""
    if setting != "auto":
        return setting
    return "github" if github.is_github(environ) else "gitlab" if gitlab.is_gitlab(environ) else "none"


def _workspace(kind: str, environ: Mapping[str, str]) -> Path | None:
    """Folder of the repository, to which a CI's paths are relative."""
    said = environ.get({"github": "GITHUB_WORKSPACE", "gitlab": "CI_PROJECT_DIR"}.get(kind, ""))
    return Path(said) if said else None


def _told(config: pytest.Config, ended: BaseException | _Ending, workspace: Path, root: Path, kind: str) -> Told:
    run, results = gated_run(config), results_of(config, ended)
    folder = relative(workspace, root)
    links = {"github": github.links, "gitlab": gitlab.links}.get(kind)
    told = Told(
        results=results,
        command=typed("pytest", *config.invocation_params.args),
        links=links(os.environ) if links else Links(),
        folder="" if folder in (".", str(root)) else f"{folder}/",
    )
    session: Session | None = getattr(run, "session", None)
    if run is None or session is None:
        return told
    if config.option.eval_bisect and session.reports:  # it looks only at those that it needs
        results = replace(
            results, candidates=tuple(each for each in results.candidates if each.name in session.reports)
        )
    return replace(
        told,
        results=results,
        cards={name: report.data for name, report in session.reports.items()},
        places={item.selected.task: Place(relative(workspace, item.path), item.line) for item in run.members},
        missing=tuple(run.missing),
        recorded=session.record_only,
    )


def _to_github(told: Told, comment_path: str) -> None:
    """Summary and outputs into the files that the runner names, annotations onto standard output."""
    add_to_summary(os.environ, lambda there: github.summary(told, there))
    if outputs := os.environ.get("GITHUB_OUTPUT"):
        _attempt(Path(outputs), lambda: _append(Path(outputs), github.outputs(told, comment_path)))
    for line in github.commands(annotate(told)):
        _say(line)


def add_to_summary(environ: Mapping[str, str], render: Callable[[int], str | None]) -> None:
    """Add to the summary of a step of GitHub Actions, where there is one.

    Args:
        environ: names the file.
        render: takes how many bytes stand there, and gives the Markdown; `None` where there is no room for it.
    """
    if not environ.get("GITHUB_STEP_SUMMARY"):
        return
    path = Path(environ["GITHUB_STEP_SUMMARY"])

    def add() -> None:
        markdown = render(path.stat().st_size if path.exists() else 0)
        if markdown is None:
            raise OSError(None, "it is full")
        _append(path, markdown)

    _attempt(path, add)


def _append(path: Path, said: str) -> None:
    with path.open("a", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(said)


def _write(path: Path, content: bytes) -> None:
    _attempt(path, lambda: write_atomically(path, content))


def _attempt(path: Path, write: Callable[[], object]) -> None:
    """A report that is lost is said; it is no verdict."""
    try:
        write()
    except (OSError, EvalgateError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        _say(f"evalgate: CI will not see {safe(str(path), 300)}: {safe(why, 300)}. The exit code says what came out.")


def _say(line: str) -> None:
    """One line, after pytest's last one; its capture has ended."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)  # noqa: T201


def note_in_junit(config: pytest.Config, session: Session) -> None:
    """Properties of the whole test suite, if pytest writes a JUnit file: who, what came out, where its card is."""
    xml = next((each for each in config.pluginmanager.get_plugins() if hasattr(each, "add_global_property")), None)
    if xml is None:
        return
    for name in session.gated:
        report, suffix = session.reports.get(name), f"[{safe(name, 100)}]" if len(session.gated) > 1 else ""
        found = {"candidate": name, "digest": session.candidates[name].digest}
        if report:
            found |= {
                "outcome": str(report.family.outcome),
                "blocked": str(report.family.fails(report.family.policy)).lower(),
            }
            found |= {"reason": report.family.reason, "card": relative(session.root, report.card)}
        for key, value in found.items():
            xml.add_global_property(f"evalgate.{key}{suffix}", safe(value, 400))
    if session.ledger.head:
        xml.add_global_property("evalgate.ledger", session.ledger.head)


@contextmanager
def told_of(what: str) -> Iterator[Callable[[str], None]]:
    """Around a command that may start no pytest at all: its last line, or why it could not be done, is in the summary.

    Args:
        what: the command, such as `evalgate nightly`.
    """
    root = project_root(Path.cwd())
    wanted = chosen(_settings(root, {}).ci, os.environ) == "github"

    def add(said: str) -> None:
        if wanted:
            add_to_summary(
                os.environ, lambda there: f"\n{said}\n" if there + len(said) * 4 < github.STEP_LIMIT else None
            )

    try:
        yield lambda line: add(inline(line, 600))
    except EvalgateError as error:
        add(f"## 💥 {inline(what)}: it could not be done\n\n{inline(str(error), 600)}")
        raise
