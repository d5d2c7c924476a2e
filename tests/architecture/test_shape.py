"""The shape of the tree: no circle between files, a root that reads at a glance, and every file in its room."""

import subprocess
import tomllib

import grimp

from tests.checkout import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
ROOTS = PROJECT["tool"]["importlinter"]["root_packages"]


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return every strongly connected group of more than one module (Tarjan, 1972)."""
    found: list[list[str]] = []
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in imports[module]:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = [stack.pop()]
            while group[-1] != module:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for module in imports:
        if module not in index:
            visit(module)
    return found


def test_no_two_files_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph(*ROOTS, cache_dir=None)
    imports = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    assert circles(imports) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_the_root_holds_about_a_dozen_folders() -> None:
    folders = {path.partition("/")[0] for path in tracked() if "/" in path and not path.startswith(".")}
    assert folders == {
        *("dags", "etl", "train", "export", "triton_models", "streaming", "twinline"),
        *("bench", "proofs", "tests", "docs", "ops"),
    }


def test_benches_and_proofs_are_not_in_the_wheel() -> None:
    included = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted(included) == ["etl*", "export*", "streaming*", "train*", "triton_models*", "twinline*"]
