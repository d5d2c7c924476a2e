"""What a run of chaos is asked for."""

from dataclasses import dataclass

from proofs.chaos.sabotage import SABOTAGES
from twinline.contract.errors import SettingsError


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """How many deaths, of which messages, and how fast."""

    kills: int
    seed: int
    short: bool
    rate: float
    minutes: float
    keep: bool
    sabotage: str

    def __post_init__(self) -> None:
        """Refuse a bug that nobody has written.

        Raises:
            SettingsError: `sabotage` is none of the known ones.
        """
        if self.sabotage and self.sabotage not in SABOTAGES:
            raise SettingsError(f"--sabotage {self.sabotage!r}: choose from {', '.join(sorted(SABOTAGES))}")
