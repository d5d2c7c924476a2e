"""A probe before a message is blamed: a known good document must pass, or no message is at fault."""

from twinline.clients.store.protocol import Collection, Head
from twinline.contract.documents.records import Document
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import MismatchError

_WORD = Document("twinline", "probe", "probe")


def check_that_others_pass(collection: Collection, embedder: Embedder, preprocessor: Preprocessor) -> None:
    """Raise when chunker, encoder or collection refuse everything, so that no message is at fault.

    Stored points are written again, which changes nothing: a collection that refuses only writes would otherwise send every
    document to the dead letters.
    """
    texts = [chunk.encoder_text for chunk in preprocessor.chunks(_WORD)]
    found = embedder.embed(texts, "document").vectors.shape
    if found != (len(texts), collection.info.dimension):
        raise MismatchError(
            f"the encoder gave vectors of shape {found}, collection {collection.name} takes {collection.info.dimension} numbers: "
            "publish the release again"
        )
    golden = collection.read_golden()
    if golden:
        collection.put_golden(golden)
    heads, _ = collection.scroll({"kind": "head"}, limit=1)
    collection.put_heads([Head.from_payload(point.payload) for point in heads])
