"""Write constraints.txt: the exact version of everything that the project needs, as installed in .venv and .venv-server.

Follows the requirements from package to package, so that whatever else is installed stays out. A package that both
environments have takes the platform's version. A version that one of the Pythons in `[tool.twinline]` cannot install is
refused: set-up would end there without a solution.

    .venv/bin/python ops/lock.py
"""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[1]
HEADER = """\
# Exact versions for both environments; written by ops/lock.py, installed by `make setup`.
# pyproject.toml and ops/server-requirements.txt say what is needed, with ranges.
"""


def installed(path: list[str]) -> dict[str, metadata.Distribution]:
    """Return the packages in some folders, by name."""
    return {canonicalize_name(found.metadata["Name"]): found for found in metadata.distributions(path=path)}


def closure(wanted: Iterable[str], packages: Mapping[str, metadata.Distribution]) -> dict[str, str]:
    """Return name and version of every package that `wanted` needs, directly or not."""
    versions: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    queue = [(Requirement(text), "") for text in wanted]
    while queue:
        requirement, of_extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        name = canonicalize_name(requirement.name)
        # The local part names a build (torch's +cpu); which build is a choice of set-up, not of this file.
        versions[name] = packages[name].version.split("+")[0]
        for extra in ("", *requirement.extras):
            if (name, extra) not in done:
                done.add((name, extra))
                queue += [(Requirement(text), extra) for text in packages[name].requires or ()]
    return versions


def required(project: Mapping[str, Any], extras: Iterable[str]) -> list[str]:
    """Return what a project needs with some extras; an extra that names the project itself stands for others of its extras."""
    found, queue, done = list(project["dependencies"]), list(extras), set()
    while queue:
        extra = queue.pop()
        if extra in done:
            continue
        done.add(extra)
        for text in project["optional-dependencies"][extra]:
            requirement = Requirement(text)
            if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
                queue += requirement.extras
            else:
                found.append(text)
    return found


def unfit(versions: Mapping[str, str], packages: Mapping[str, metadata.Distribution], pythons: Iterable[str]) -> list[str]:
    """Return a line for each version that a Python of the list cannot install."""
    found = []
    for name in sorted(versions):
        wanted = packages[name].metadata["Requires-Python"] if name in packages else None
        shut_out = [python for python in pythons if wanted and not SpecifierSet(wanted).contains(python)]
        if shut_out:
            found.append(
                f"{name} {versions[name]} needs Python {wanted}, and {', '.join(shut_out)} is promised: install an older one "
                f"(`.venv/bin/pip install '{name}<{versions[name]}'`), then lock again"
            )
    return found


def main() -> None:
    """Write the file, or refuse versions that a promised Python cannot install."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    project, promised = settings["project"], settings["tool"]["twinline"]["pythons"]
    packages = installed(sys.path)
    platform = closure(required(project, ("all", "dev", "ray")), packages)

    lines = (CHECKOUT / "ops" / "server-requirements.txt").read_text().splitlines()
    site_packages = [str(folder) for folder in (CHECKOUT / ".venv-server").glob("lib/python3.*/site-packages")]
    of_server = installed(site_packages)
    server = closure([line for line in lines if not line.startswith("#")], of_server)
    # The model server's Python is never newer than 3.12.
    wrong = [*unfit(platform, packages, promised), *unfit(server, of_server, [p for p in promised if not p.startswith("3.13")])]
    if wrong:
        sys.exit("\n".join(["constraints.txt stays as it was:", *wrong]))

    pins = [f"{name}=={version}\n" for name, version in sorted((server | platform).items())]
    (CHECKOUT / "constraints.txt").write_text(HEADER + "".join(pins))


if __name__ == "__main__":
    main()
