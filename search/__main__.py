"""Run the search API alone, beside a Qdrant server that other processes keep fresh.

python -m search
"""

import sys
from functools import partial

from clients import logs, telemetry


def main() -> None:
    """Serve until told to stop. A release that another process activates is opened at its first question."""
    telemetry.apply()
    logs.configure()
    # Imported here so that telemetry is off before any of them loads.
    import uvicorn

    from clients.settings import load_settings
    from clients.stores import make_store
    from contract.errors import ContractError, SettingsError
    from contract.selfcheck import check_process
    from search import opening
    from search.api import build_app
    from search.releases import Releases

    try:
        check_process()
        settings = load_settings()
        if settings.store == "edge":
            raise SettingsError(
                "TWINLINE_STORE is edge, whose collections one process owns together with their consumers: "
                "run `python -m twinline.online`, or set TWINLINE_STORE=qdrant and QDRANT_URL"
            )
    except ContractError as error:
        sys.exit(f"search: {error}")
    store = make_store(settings)
    releases = Releases(store, partial(opening.open_release, settings, store))
    uvicorn.run(build_app(releases), host=settings.host, port=settings.search_port, log_config=None, access_log=False)


if __name__ == "__main__":
    main()
