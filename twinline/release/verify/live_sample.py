"""Check sampled documents of a changing collection: documents that change during the check do not count."""

from collections.abc import Mapping

from twinline.clients.store.protocol import Head
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Document
from twinline.contract.release.checks import Check
from twinline.release.verify.index import Candidate, Reads, look_at, sample_checks, still_current, vector_limit
from twinline.release.verify.log_sample import DocumentKey, LogState


def live_sample_checks(candidate: Candidate, reads: Reads, state: LogState, heads: Mapping[DocumentKey, Head]) -> list[Check]:
    """Return the checks of the sampled documents, without those that have changed since the log was read.

    A document that was updated or deleted between the reads of its head and its chunks is no fault of the collection. A document
    that disagrees is judged by its head, read again after that; any number of documents may change meanwhile.
    """
    limit = vector_limit(candidate)
    looks = [look for document in still_current(state.documents, state, heads) if (look := look_at(candidate, reads, document))]
    counted = [look for look in looks if look.is_good(limit) or _is_as_logged(look.document, state, reads, candidate.collection)]
    return sample_checks(counted, limit, left_out=len(looks) - len(counted))


def _is_as_logged(document: Document, state: LogState, reads: Reads, collection: str) -> bool:
    """Say whether the collection's version is the log's; a consumer writes a head before its chunks."""
    name = (document.source, document.key)
    point = reads.point(collection, head_id(*name))
    heads = {name: Head.from_payload(point.payload)} if point else {}  # erased since its head was read
    return bool(still_current({name: document}, state, heads))
