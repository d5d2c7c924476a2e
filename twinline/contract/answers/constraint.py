"""The seam between the grammar and the decode loop: which tokens may come next in one answer."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Constraint(Protocol):
    """What one request's next token may be; one object a request, advanced by the engine."""

    def allowed(self) -> NDArray[np.bool_] | None:
        """Return a mask `(vocabulary,)` of the tokens that may come next, valid until `advance`; None: all. Never all False."""

    def advance(self, token: int) -> None:
        """Take the token that was decoded.

        Raises:
            ContractError: the mask does not allow the token.
        """

    def finished(self) -> bool:
        """Return True once nothing may follow but a stop id."""
