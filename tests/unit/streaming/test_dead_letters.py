from contract.errors import ContractError, DocumentError
from streaming.dead_letters import DeadLetter
from streaming.decode import Message

MESSAGE = Message(1, 42, 1_763_800_000_000, b"\x00key", b"\xff\xfevalue", [("run_id", b"run-7")])


def test_a_dead_letter_survives_its_topic_whole() -> None:
    letter = DeadLetter.of(MESSAGE, "decode", DocumentError("invalid_json", "not JSON: ü"), "r1")
    assert DeadLetter.read(MESSAGE.key, MESSAGE.value, letter.headers()) == letter
    assert letter.reason == "invalid_json"


def test_a_dead_letter_without_its_headers_is_the_message_itself() -> None:
    letter = DeadLetter.of(MESSAGE, "index", ContractError("refused"), "r1")
    assert [header for header in letter.headers() if not header[0].startswith("dead-letter-")] == MESSAGE.headers


def test_a_very_long_error_is_cut() -> None:
    letter = DeadLetter.of(MESSAGE, "index", ContractError("x" * 100_000), "r1")
    assert len(letter.error) == 2_000
    assert letter.reason == "refused"


def test_a_foreign_message_on_the_topic_is_shown_as_unknown() -> None:
    letter = DeadLetter.read(b"k", None, [])
    assert (letter.reason, letter.stage, letter.message.offset) == ("unknown", "unknown", -1)
