"""Run the search API alone, beside a Qdrant server that other processes keep fresh.

python -m twinline.search
"""

from functools import partial

from twinline.clients.run import run


def serve() -> None:
    """Serve until a signal to stop. A release activated by another process is opened at its first question."""
    # Imported here so that telemetry is off before any of them loads.
    import uvicorn

    from twinline.clients.settings import load_settings
    from twinline.clients.store.open import make_store
    from twinline.contract.errors import SettingsError
    from twinline.contract.principal import LOCAL_OPERATOR
    from twinline.search import opening
    from twinline.search.api import build_app
    from twinline.search.middleware import own_hosts
    from twinline.search.releases import Releases

    settings = load_settings()
    store = make_store(settings)
    if store.has_one_owner:
        raise SettingsError(
            f"TWINLINE_STORE is {settings.store}, whose collections one process owns together with their consumers: "
            "run `python -m twinline.online`, or set TWINLINE_STORE=qdrant and QDRANT_URL"
        )
    releases = Releases(store, partial(opening.open_served, settings, store))
    app = build_app(releases, principal=LOCAL_OPERATOR, hosts=own_hosts(settings.host, settings.search_hosts))
    uvicorn.run(app, host=settings.host, port=settings.search_port, log_config=None, access_log=False)


def main() -> None:
    """Run the search API."""
    run("search", serve, check="all", logged=True, role="serve")


if __name__ == "__main__":
    main()
