"""The options of a chaos run."""

from dataclasses import dataclass

from proofs.chaos.sabotage import SABOTAGES
from twinline.contract.errors import SettingsError


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """Number of deaths, messages, and rates."""

    kills: int
    seed: int
    short: bool
    rate: float
    minutes: float
    keep: bool
    sabotage: str

    def __post_init__(self) -> None:
        """Refuse an unknown bug.

        Raises:
            SettingsError: `sabotage` is unknown.
        """
        if self.sabotage and self.sabotage not in SABOTAGES:
            raise SettingsError(f"--sabotage {self.sabotage!r}: choose from {', '.join(sorted(SABOTAGES))}")
