"""Names of versions and aliases."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.errors import ConfigError
from evalgate.versions import ALIASES, check_alias, check_name


@given(st.text(max_size=120))
def test_an_allowed_name_stays_in_its_folder(name: str) -> None:
    """Whatever text: it is refused in one line, or it is one visible folder below another."""
    try:
        check_name(name)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
        return
    path = Path("/runs") / name
    assert path.parent == Path("/runs")
    assert path == Path(f"/runs/{name}")
    assert not name.startswith((".", "-"))
    assert name.isascii()
    assert name.isprintable()


@pytest.mark.parametrize("name", ["v1", "v3-epoch-12", "sft_2026-01-01", "a.b"])
def test_good_names(name: str) -> None:
    """Versions, epochs, dates, dots."""
    assert check_name(name) == name


@pytest.mark.parametrize("alias", ["v4", "v4-epoch-1", "taken", "", "..", "a/b", ALIASES, "x" * 200])
def test_an_alias_is_never_taken_for_a_version(alias: str, tmp_path: Path) -> None:
    """Names like those of versions, of a version that is there, and no names at all are refused."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigError):
        check_alias(alias, tmp_path)


def test_an_alias_may_be_there_already(tmp_path: Path) -> None:
    """The link that an alias is does not stand in its own way."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "champion").symlink_to("v1")
    assert check_alias("champion", tmp_path) == "champion"
