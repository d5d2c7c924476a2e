"""Write constraints.txt: the exact version of everything that the project needs, as installed in .venv and .venv-server.

Follows the requirements of pyproject.toml from package to package, so that whatever else is installed stays out.

    .venv/bin/python ops/lock.py
"""

import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[1]
SERVER_WHEEL = "nvidia-pytriton"
HEADER = """\
# Exact versions for both environments; written by ops/lock.py, installed by `make setup`.
# pyproject.toml and ops/server-requirements.txt say what is needed and why, with ranges.
"""


def closure(wanted: Iterable[str]) -> dict[str, str]:
    """Return name and installed version of every package that `wanted` needs, directly or not."""
    versions: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    queue = [(Requirement(text), "") for text in wanted]
    while queue:
        requirement, of_extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        name = canonicalize_name(requirement.name)
        distribution = metadata.distribution(name)
        # The local part names a build (torch's +cpu); which build is a choice of set-up, not of this file.
        versions[name] = distribution.version.split("+")[0]
        for extra in ("", *requirement.extras):
            if (name, extra) not in done:
                done.add((name, extra))
                queue += [(Requirement(text), extra) for text in distribution.requires or ()]
    return versions


def server_wheel_version() -> str:
    """Return the version of the model server's wheel, which only the other environment has."""
    pattern = f"lib/python3.*/site-packages/{SERVER_WHEEL.replace('-', '_')}-*.dist-info"
    folder = next((CHECKOUT / ".venv-server").glob(pattern))
    return folder.name.removesuffix(".dist-info").partition("-")[2]


def main() -> None:
    """Write the file."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    server = [line for line in (CHECKOUT / "ops" / "server-requirements.txt").read_text().splitlines() if line[:1] != "#"]
    versions = closure([*project["dependencies"], *extras["dev"], *extras["ray"], *server])
    versions[SERVER_WHEEL] = server_wheel_version()
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    (CHECKOUT / "constraints.txt").write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    main()
