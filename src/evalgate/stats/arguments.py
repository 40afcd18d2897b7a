"""What the arguments of the statistics must be, and the one message that says what was expected and given."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vector: TypeAlias = npt.NDArray[np.floating | np.integer]


def require(holds: bool, what: str, expected: str, actual: object) -> None:
    """Refuse what does not hold (ValueError)."""
    if not holds:
        raise ValueError(f"{what}: expected {expected}, got {actual!r}")


def require_inside(value: float, what: str, low: float, high: float) -> None:
    """Refuse a number that is not strictly between two others."""
    require(low < value < high, what, f"a number above {low:g} and below {high:g}", value)


def counts(loss: int, gain: int, n: int | None = None) -> tuple[int, int, int]:
    """Losses, gains and n (their sum where none is given) as plain integers."""
    given = (loss, gain) if n is None else (loss, gain, n)  # then their sum stands for n
    require(all(hasattr(x, "__index__") and x >= 0 for x in given), "loss, gain and n", "integers >= 0", given)
    require(n is None or n >= max(loss + gain, 1), "n", f"at least 1 and loss + gain = {loss + gain}", n)
    return int(loss), int(gain), int(loss + gain if n is None else n)


def vector(values: npt.ArrayLike, what: str, length: int | None = None) -> Vector:
    """Finite numbers in one dimension, of that length where one is given."""
    import numpy as np

    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: expected numbers, got something else: {error}") from error
    fits = array.ndim == 1 and len(array) > 0 and length in (None, len(array))
    require(fits, what, f"shape ({length or 'n >= 1'},)", array.shape)
    bad = np.flatnonzero(~np.isfinite(array))
    require(not bad.size, what, "finite numbers", [f"{array[i]} at position {i}" for i in bad[:1]])
    return array


def codes_of(labels: Sequence[Hashable] | Vector, length: int, what: str = "clusters") -> npt.NDArray[np.intp]:
    """Labels as 0, 1, 2, …: by first appearance, or by size where they are an array of whole numbers."""
    import numpy as np

    require(len(labels) == length, what, f"{length} labels, one per row", len(labels))
    if isinstance(labels, np.ndarray) and np.issubdtype(labels.dtype, np.integer):
        return np.asarray(np.unique(labels, return_inverse=True)[1], dtype=np.intp)
    numbers: dict[Hashable, int] = {}
    missing = [i for i, label in enumerate(labels) if label is None or label != label]  # NaN is not itself
    require(not missing, what, "a label in every row", f"none at position {missing[:1]}")
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.intp)
