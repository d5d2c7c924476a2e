"""Promotions and rollbacks between two versions in a real registry: Git tags, of which the youngest counts."""

import subprocess
import time
from pathlib import Path
from typing import Final

from twinline.contract.artefacts import ENCODER
from twinline.registry.versions import Registry

_WHO: Final = ("-c", "user.name=proof", "-c", "user.email=proof@localhost")


class Rollbacks:
    """A repository with two versions, one of them in production."""

    def __init__(self, project: Path) -> None:
        import gto

        project.mkdir()
        self._registry = Registry(project, ENCODER)
        self._next = 1
        self.without_effect = 0
        subprocess.run(["git", "init", "-q"], cwd=project, check=True)
        for number in (1, 2):
            subprocess.run(["git", *_WHO, "commit", "-q", "--allow-empty", "-m", f"v{number}"], cwd=project, check=True)
            gto.api.register(
                str(project),
                ENCODER.name,
                "HEAD",
                version=f"v{number}.0.0",
                message=f"release r{number}",
                author="proof",
                author_email="proof@localhost",
            )

    def switch(self) -> float:
        """Put the other version in production; return the seconds that it took."""
        version, self._next = f"v{self._next}.0.0", 3 - self._next
        began = time.monotonic()
        self._registry.assign(version, f"to {version}")
        took = time.monotonic() - began
        active = self._registry.in_production()
        self.without_effect += active is None or active.version != version
        return took
