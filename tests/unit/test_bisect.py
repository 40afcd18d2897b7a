"""The search for the first bad place: laws over every pattern, and the order of a version's epochs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.bisect import Found, Row, bisect_lines, epochs_of, first_bad
from evalgate.errors import InputError


def search(pattern: list[bool]) -> tuple[Found, list[int]]:
    """Search a pattern, and the places that were looked at, in order."""
    looked: list[int] = []

    def is_bad(place: int) -> bool:
        looked.append(place)
        return pattern[place]

    return first_bad(len(pattern), is_bad), looked


@given(st.integers(1, 200), st.integers(0, 200))
def test_a_monotone_pattern_is_found_by_halving(count: int, bad: int) -> None:
    """Good up to a place and bad from there: that place is named, in logarithmically many looks and two neighbours."""
    pattern = [place >= bad for place in range(count)]
    found, looked = search(pattern)
    assert found.first == (bad if bad < count else None)
    assert found.monotone
    assert len(looked) == len(set(looked)) <= count.bit_length() + 4


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_what_is_named_is_true_of_any_pattern(pattern: list[bool]) -> None:
    """A named place is bad, nothing that was seen before it is, and where evidence is not monotone all was seen."""
    found, looked = search(pattern)
    assert found.seen == {place: pattern[place] for place in looked}
    assert len(looked) == len(set(looked))
    if found.first is None:
        assert not pattern[-1]
        return
    assert pattern[found.first]
    assert not any(bad for place, bad in found.seen.items() if place < found.first)
    assert found.first == 0 or found.first - 1 in found.seen
    if not found.monotone:
        assert len(looked) == len(pattern)
        assert found.first == pattern.index(True)


def test_a_good_last_place_ends_the_search() -> None:
    """The version holds: nothing else is looked at."""
    found, looked = search([True, False, False])
    assert (found.first, looked) == (None, [2])


def test_a_later_good_place_is_noticed_beside_what_was_found() -> None:
    """Bad, good, bad: the neighbour shows that halving was not fair, and the first of all is named."""
    found, looked = search([True, False, True, True, True])
    assert (found.first, found.monotone) == (0, False)
    assert sorted(looked) == [0, 1, 2, 3, 4]


def test_epochs_come_in_the_order_of_training(tmp_path: Path) -> None:
    """By number and not by name, then the version itself; versions that only sound alike are not among them."""
    for name in ("v3", "v3-epoch-10", "v3-epoch-2", "v3-epoch-1", "v33-epoch-1", "v3-epoch-x", "v3-epoch-1-copy"):
        (tmp_path / name).mkdir()
    names = [folder.name for folder in epochs_of(tmp_path / "v3")]
    assert names == ["v3-epoch-1", "v3-epoch-2", "v3-epoch-10", "v3"]


def test_a_version_without_epochs_is_refused(tmp_path: Path) -> None:
    """Nothing to search in is no result."""
    (tmp_path / "v3").mkdir()
    with pytest.raises(InputError, match="no epoch of v3"):
        epochs_of(tmp_path / "v3")
    with pytest.raises(InputError, match="is no folder"):
        epochs_of(tmp_path / "v4")


def test_the_table_of_a_search_without_a_result() -> None:
    """A version that was not needed is said to be; a search that could not decide says so."""
    lines = bisect_lines([Row("v3-epoch-1", 1.0, 40, None), Row("v3", 2.0, 80, None)], None)
    assert lines[1].split() == ["v3-epoch-1", "1", "40", "not", "needed"]
    assert lines[-1] == "the search ended: a version could not be evaluated or compared"
