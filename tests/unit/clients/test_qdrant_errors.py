import httpx
import pytest
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from twinline.clients.store import qdrant_collection
from twinline.clients.store.qdrant import QdrantStore, connect
from twinline.clients.store.qdrant_collection import server_errors
from twinline.contract.errors import ContractError, MismatchError, SettingsError, TransientError, TwinlineError

URL = "http://127.0.0.1:9"


def answer(status: int) -> UnexpectedResponse:
    return UnexpectedResponse(status, "reason", b"because", httpx.Headers())


@pytest.mark.parametrize(
    ("vendor", "ours"),
    [
        (ResponseHandlingException(ConnectionError("refused")), TransientError),
        (answer(503), TransientError),
        (answer(429), TransientError),
        (answer(400), ContractError),
        (answer(404), ContractError),
        (ValueError("wrong argument"), ContractError),
    ],
)
def test_errors_become_ours_and_name_the_server(vendor: Exception, ours: type[TwinlineError]) -> None:
    client = connect(URL)
    with pytest.raises(ours, match=URL) as caught, server_errors(client, "collection x"):
        raise vendor
    assert caught.value.__cause__ is vendor
    client.close()


@pytest.mark.parametrize(
    ("vendor", "setting"),
    [
        (answer(401), "QDRANT_API_KEY"),
        (answer(403), "QDRANT_API_KEY"),
        (ResponseHandlingException(OSError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")), "SSL_CERT_FILE"),
        (ResponseHandlingException(OSError("[SSL: WRONG_VERSION_NUMBER] wrong version number")), "http:// in QDRANT_URL"),
        (ResponseHandlingException(OSError("[Errno 104] Connection reset by peer")), "https:// in QDRANT_URL"),
        (ResponseHandlingException(OSError("Server disconnected without sending a response.")), "https:// in QDRANT_URL"),
    ],
)
def test_what_no_repetition_changes_is_told_as_a_setting(
    vendor: Exception, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_collection, "speaks_tls", lambda host, port: (host, port) == ("127.0.0.1", 9))
    client = connect(URL)
    with pytest.raises(SettingsError, match=setting), server_errors(client, "collection x"):
        raise vendor
    client.close()


def test_a_busy_server_says_how_long_to_wait() -> None:
    client = connect(URL)
    with pytest.raises(TransientError) as caught, server_errors(client, "collection x"):
        raise ResourceExhaustedResponse("busy", 7)
    assert caught.value.retry_after_seconds == 7.0
    client.close()


def test_a_server_that_is_not_there_is_named_with_the_remedy() -> None:
    client = connect(URL)
    with pytest.raises(TransientError, match=f"{URL}.*QDRANT_URL"):
        QdrantStore(client).names()
    client.close()


def test_somebody_elses_collection_is_neither_listed_nor_opened_nor_dropped() -> None:
    client = connect(":memory:")
    client.create_collection("theirs", vectors_config={})
    store = QdrantStore(client)
    assert store.names() == []
    with pytest.raises(MismatchError, match="theirs"):
        store.info("theirs")
    with pytest.raises(MismatchError, match="theirs"):
        store.drop("theirs")
    client.close()
