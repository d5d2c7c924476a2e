"""Write constraints.txt: the exact version of everything that the project needs, as installed in .venv and .venv-server.

Follows the requirements from package to package, so that whatever else is installed stays out. A package that both
environments have takes the platform's version.

    .venv/bin/python ops/lock.py
"""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
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


def main() -> None:
    """Write the file."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    platform = closure(required(project, ("all", "dev", "ray")), installed(sys.path))

    lines = (CHECKOUT / "ops" / "server-requirements.txt").read_text().splitlines()
    site_packages = [str(folder) for folder in (CHECKOUT / ".venv-server").glob("lib/python3.*/site-packages")]
    server = closure([line for line in lines if not line.startswith("#")], installed(site_packages))

    pins = [f"{name}=={version}\n" for name, version in sorted((server | platform).items())]
    (CHECKOUT / "constraints.txt").write_text(HEADER + "".join(pins))


if __name__ == "__main__":
    main()
