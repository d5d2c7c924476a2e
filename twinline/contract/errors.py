"""The exception tree: two kinds of failure, and every loop asks only which of the two.

TwinlineError
├── ContractError        retrying cannot help
│   ├── DocumentError    one bad document or message: set aside with its reason, neighbours go on
│   ├── MismatchError    two sides disagree about a fingerprint: one of the five doors stays shut
│   ├── SettingsError    a wrong parameter, setting or use
│   └── TooSmallError    a corpus gives too little to train on or to measure with; it can be served all the same
└── TransientError       retrying may help: a dependency is away, slow or full
"""


class TwinlineError(Exception):
    """Anything that Twinline raises on purpose."""


class ContractError(TwinlineError):
    """Retrying cannot help: the input, the artefact or the use is wrong."""


class DocumentError(ContractError):
    """One bad document, message or query.

    Args:
        reason: a short slug that rejects and dead letters are counted by, such as `no_text`.
        message: names the value, the place and the remedy.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MismatchError(ContractError):
    """Two sides disagree about a contract, a space or a file: nothing is written or served."""


class SettingsError(ContractError):
    """A parameter, setting or command-line use is wrong."""


class TooSmallError(ContractError):
    """A corpus gives too little to train on, or to measure with: the training is skipped, and no fault."""


class TransientError(TwinlineError):
    """A dependency is away, slow or full; the same call may succeed later.

    Args:
        message: names the dependency, its address and the remedy.
        retry_after_seconds: how long the dependency asked to be left alone, when it said so.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


def check_whole_number(value: object, lowest: int, highest: int, what: str, error: type[ContractError] = SettingsError) -> None:
    """Raise `error` unless a value is an integer within bounds; true and false are none.

    Args:
        what: names the value and its place.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise error(f"{what} is {value!r}: must be a whole number from {lowest} to {highest}")
