"""The status of the online process."""

from collections.abc import Callable

from twinline.clients.online import CollectionStatus, OnlineStatus
from twinline.contract.errors import TwinlineError
from twinline.online.service import OnlineService
from twinline.search.index import count_documents


def read_status(service: OnlineService) -> OnlineStatus:
    """Return the state of every served collection, also when a dependency is away: then it is needed most.

    Raises:
        TransientError: the store cannot say which collection is active.
    """
    active = service.releases.active_name()
    return OnlineStatus(
        active=active,
        collections=[_look(service, name, is_active=name == active) for name in service.releases.names()],
        refused=service.refused(),
        begun=tuple(service.begun()),
    )


def _look(service: OnlineService, name: str, is_active: bool) -> CollectionStatus:
    consumer = service.consumer(name)
    faults = [consumer.fault] if consumer and consumer.fault else []
    with service.releases.using(name) as served:
        info = served.info

        def known(read: Callable[[], int]) -> int | None:
            try:
                return read()
            except TwinlineError as error:
                faults.append(str(error))
                return None

        return CollectionStatus(
            name=name,
            release=info.release,
            space=info.space,
            contract=info.contract_fingerprint,
            active=is_active,
            consumer_running=consumer is not None and consumer.is_running,
            documents=known(lambda: count_documents(served.collection)),
            chunks=known(lambda: served.collection.count({"kind": "chunk"})),
            lag=consumer.lag if consumer else None,
            faults=faults,
            notes=consumer.notes if consumer else [],
            idle_seconds=round(consumer.idle_seconds, 1) if consumer else None,
            alarms=service.alarms(info.release),
        )
