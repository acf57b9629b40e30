"""The layers: imports point down only, and the compute node's packages stay small."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the bottom up. A module may import from its own layer and those below.
LAYERS = ["contract", "runtime", "domain", "adapters", "usecases", "cli"]
STDLIB_ONLY = {"contract", "runtime"}
# Imports inside functions, each with its reason at the place.
LAZY = {
    "orchestrator/adapters/best_file.py",
    "orchestrator/adapters/slurm_cli.py",
    "orchestrator/adapters/exports/mlflow_store.py",
    "orchestrator/adapters/exports/wandb_runs.py",
    "orchestrator/adapters/importers/optuna_study.py",
    "orchestrator/cli/arguments.py",
    "orchestrator/cli/import_options.py",
    "orchestrator/domain/pareto.py",
    "orchestrator/domain/ranking.py",
    "orchestrator/domain/samplers/quasi_random.py",
    "orchestrator/domain/samplers/random.py",
    "orchestrator/domain/search_space.py",
    "orchestrator/domain/table.py",
    "orchestrator/leaderboard.py",
    "orchestrator/runtime/attempt.py",
    "orchestrator/runtime/canary.py",
    "orchestrator/runtime/canary_watch.py",
    "orchestrator/runtime/claim.py",
    "orchestrator/runtime/guard.py",
    "orchestrator/runtime/requeue.py",
    "orchestrator/usecases/collect.py",
    "orchestrator/usecases/handover.py",
    "orchestrator/usecases/supervisor_job.py",
    "orchestrator/usecases/vanished.py",
}


def modules() -> list[Path]:
    return sorted((ROOT / "orchestrator").rglob("*.py"))


def layer_of(path: Path) -> str | None:
    parts = path.relative_to(ROOT / "orchestrator").parts
    return parts[0] if len(parts) > 1 else None


def imported(tree: ast.AST) -> list[tuple[str, bool]]:
    """Names of imported modules, and whether the import is guarded by TYPE_CHECKING."""
    typing_only: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            typing_only.update(child for item in node.body for child in ast.walk(item))
    names: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(alias.name, node in typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            names.append((node.module or "", node in typing_only))
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_module_imports_point_down(path: Path) -> None:
    layer = layer_of(path)
    if layer is None:
        return
    for name, _ in imported(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] == "orchestrator" and len(parts) > 1:
            assert parts[1] in LAYERS, f"{name}: no such layer"
            assert LAYERS.index(parts[1]) <= LAYERS.index(layer), f"{layer} imports {name}"
        assert parts[0] not in ("train", "tests"), f"{name}: not ours to import"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_module_of_the_compute_node_uses_the_standard_library_only(path: Path) -> None:
    if layer_of(path) not in STDLIB_ONLY:
        return
    for name, typing_only in imported(ast.parse(path.read_text())):
        top = name.partition(".")[0]
        lazy_submitit = top == "submitit" and path.name == "requeue.py"
        allowed = top in sys.stdlib_module_names or top == "orchestrator" or lazy_submitit
        assert allowed or typing_only, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_module_imports_at_its_top_unless_listed(path: Path) -> None:
    tree = ast.parse(path.read_text())
    lazy = [
        node.lineno
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    if str(path.relative_to(ROOT)) not in LAZY:
        assert not lazy, f"imports inside functions at lines {lazy}"


def test_train_imports_only_the_runtime() -> None:
    for path in sorted((ROOT / "train").rglob("*.py")):
        for name, _ in imported(ast.parse(path.read_text())):
            if name.partition(".")[0] == "orchestrator":
                assert name.startswith("orchestrator.runtime"), f"{path.name} imports {name}"


def test_templates_and_results_hold_no_python() -> None:
    assert not list((ROOT / "templates").rglob("*.py"))
