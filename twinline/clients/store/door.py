"""The door of an index: a collection's golden vectors must be those of the release that is to use it."""

from twinline.clients.store.protocol import Collection
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.errors import MismatchError


def check_index(collection: Collection, golden: GoldenSet) -> None:
    """Compare a collection's golden vectors with the release's own, before anything is written or answered.

    Raises:
        MismatchError: a golden text is missing, is no finite vector, or is another encoder's.
    """
    worst, distance = golden.worst_stored(collection.read_golden())
    if distance <= golden.stored_limit:
        return
    place, release = f"collection {collection.name}", collection.info.release
    remedy = f"retire release {release} and build its collection again"
    if distance == float("inf"):
        raise MismatchError(
            f"{place} gives back no usable vector of golden text {worst.name!r} of release {release}: it was not built by this "
            f"version, or its golden points were removed or overwritten: {remedy}"
        )
    raise MismatchError(
        f"{place} gives golden text {worst.name!r} back {distance:.1e} away from the vector of release {release}, at most "
        f"{golden.stored_limit:.0e} is allowed: its vectors are of another space, or the store changes them: {remedy}"
    )
