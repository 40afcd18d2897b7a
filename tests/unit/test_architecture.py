"""The house: imports go only downward, and what an extra brings has one door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import evalgate

ROOT = Path(evalgate.__file__).parent
RANKS = {
    0: "errors digest checkpoint request task evaluation stats compare gate power scoring prompt plan text"
    " version instrument cases drift",
    1: "samples preflight chat engines cache store ledger lock config report importers"
    " training trackers versions leakage judges calibration",
    2: "asking cards evaluate rescore judging noise session accept records doctor publishing finetune reproduce runs"
    " diff promote gated calibrate tools sweep nightly bisect lightning",
    3: "plugin cli __init__ __main__",
}
RANK = {name: rank for rank, names in RANKS.items() for name in names.split()}
DOORS = {
    "pytest": {"plugin"},
    "vllm": {"engines"},
    "torch": {"engines", "training"},
    "transformers": {"engines", "training"},
    "peft": {"engines", "training"},
    "trl": {"training"},
    "datasets": {"training"},
    "hydra": {"training"},
    "omegaconf": {"training"},
    "typer": {"cli"},
    "model_signing": {"versions"},
    "datasketch": {"leakage"},
    "optuna": {"sweep"},
    "ray": {"sweep"},
    "yaml": {"importers", "report", "sweep", "training"},
    "huggingface_hub": {"report"},
    "mlflow": {"trackers", "training"},
    "wandb": {"trackers", "training"},
    "comet_ml": {"trackers", "training"},
    "tensorboard": {"trackers"},
    "trackio": {"trackers"},
    "neptune": {"trackers"},
    "lightning": {"lightning"},
    "deepspeed": {"training"},
    "fsspec": {"store"},
    "sqlite3": {"cache"},
    "ragas": {"judges"},
    "deepeval": {"judges"},
    "openai": {"judges"},
    "httpx": {"engines"},
    "uptrain": {"judges"},
    "polars": {"judges"},
    "ppi_py": {"stats"},
    "evalica": {"stats"},
    "backports": {"importers"},
    "compression": {"importers"},
}
INSIDE_FUNCTIONS = {
    "numpy",
    "scipy",
    "statsmodels",
    "ppi_py",
    "evalica",
    "pandas",
    "jinja2",
    "jsonschema",
    "sacrebleu",
    "rouge_score",
}


def room(path: Path) -> str:
    """The first part of a module's name below the package."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every absolute module a file imports at run time, and whether at the top level."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        top = node in tree.body
        if isinstance(node, ast.Import):
            found += [(alias.name, top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node.module, top))
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downward(path: Path) -> None:
    """A module imports its own room, its rank or a lower one; edges do not import each other."""
    here = room(path)
    for module, _ in imports(path):
        if not module.startswith("evalgate.") or (there := module.split(".")[1]) == here:
            continue
        assert there in RANK, f"{there} has no rank: give it one in ARCHITECTURE.md and here"
        assert RANK[there] <= RANK[here], f"{here} imports upward: {module}"
        assert not RANK[there] == RANK[here] == 1, f"two edges know each other: {here} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_an_extra_has_one_door(path: Path) -> None:
    """Libraries of the outside world are imported in one room each."""
    for module, _ in imports(path):
        doors = DOORS.get(module.split(".")[0])
        assert doors is None or room(path) in doors, f"{path.name} imports {module}, whose door is {doors}"


@pytest.mark.parametrize("path", [p for p in FILES if RANK[room(p)] == 0], ids=lambda p: str(p.relative_to(ROOT)))
def test_core_is_light_at_the_top(path: Path) -> None:
    """Core modules import only the standard library and each other when they are loaded."""
    heavy = {module.split(".")[0] for module, top in imports(path) if top} & INSIDE_FUNCTIONS
    assert not heavy, f"{path.name} loads {heavy} at the top"


def test_the_map_is_the_house() -> None:
    """ARCHITECTURE.md names every room, and names none that is not there."""
    text = (ROOT.parents[1] / "ARCHITECTURE.md").read_text("utf-8")
    rooms = {room(path) for path in FILES}
    assert rooms == set(RANK)
    table = "\n".join(line for line in text.splitlines() if line.startswith("| "))
    missing = {name for name in rooms if f"`{name}" not in table}
    assert not missing
