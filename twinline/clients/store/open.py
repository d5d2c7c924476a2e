"""The store that the settings name."""

from twinline.clients.settings import Settings
from twinline.clients.store.protocol import Store


def make_store(settings: Settings) -> Store:
    """Return the embedded store, or a client of the Qdrant server."""
    # Imported where chosen: a process of one kind need not load the other's engine.
    if settings.store == "edge":
        from twinline.clients.store.edge import EdgeStore

        return EdgeStore(settings.store_folder)
    from twinline.clients.store.qdrant import QdrantStore, connect

    api_key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    return QdrantStore(connect(settings.qdrant_url or "", api_key), prefix=settings.qdrant_prefix)
