"""Real texts, and copies of some of them that hold one made-up code each: a data set in BEIR's form whose answers are certain."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from twinline.contract.documents.records import Document
from twinline.contract.errors import SettingsError
from twinline.contract.sparse.analyzer import words
from twinline.contract.sparse.languages import find_language
from twinline.scoring.exact_names import Form, ask_for

SPLIT: Final = "test"
_VERBS: Final = ("open", "read", "flush", "merge", "parse", "lock", "drop", "resolve", "encode", "retry")
_NOUNS: Final = ("handle", "cursor", "frame", "ledger", "socket", "region", "quota", "mailbox", "session", "lease")


@dataclass(frozen=True)
class PlantedCode:
    """A copy of a real text with a code in it, and the query for the code."""

    document: Document
    code: str
    query: str
    form: Form


def made_up_code(number: int) -> str:
    """Return the code of a number: an error, a function, a part, a constant, a dotted name, a version or a status, in turn."""
    drawn = int.from_bytes(hashlib.sha256(f"code {number}".encode()).digest()[:8], "big")
    verb, noun, digits = _VERBS[drawn % 10], _NOUNS[drawn // 10 % 10], f"{drawn // 100 % 100_000:05}"
    letters = "".join(chr(65 + drawn // 26**place % 26) for place in range(4))
    forms = (
        f"E{digits}",
        f"{verb}_{noun}_{letters.lower()}",
        f"{letters[:2]}-{digits[:4]}-{digits[3:]}",
        f"ERR_{verb.upper()}_{letters}",
        f"{verb}{noun.title()}{letters.title()}",
        f"{noun}.{letters.lower()}.{verb}",
        f"v{digits[0]}.{digits[1:3]}.{digits[3:]}{letters[0].lower()}",
        f"0x{drawn % 2**32:08X}",
    )
    return forms[number % len(forms)]


def plant_codes(documents: Sequence[Document], count: int) -> list[PlantedCode]:
    """Return `count` copies of documents with a code each, behind a word that a hash chooses.

    Raises:
        SettingsError: there are fewer documents, or one of them holds a code already.
    """
    if len(documents) < count:
        raise SettingsError(f"{len(documents)} documents are fewer than the {count} codes to be planted: name a larger data set")
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(words(document.text))
    language = find_language(counts)
    chosen = sorted(documents, key=lambda document: hashlib.sha256(document.key.encode()).digest())[:count]
    codes = [made_up_code(number) for number in range(count)]
    everything = "\n".join(document.text for document in documents).casefold()
    if known := [code for code in codes if code.casefold() in everything]:
        raise SettingsError(f"the documents hold the code {known[0]} already, so its answer is not certain: take others")
    found = []
    for number, (document, code) in enumerate(zip(chosen, codes, strict=True)):
        said = document.text.split(" ")
        place = 1 + int.from_bytes(hashlib.sha256(code.encode()).digest()[:4], "big") % len(said)
        text = " ".join([*said[:place], f"({code})", *said[place:]])
        copy = replace(document, key=f"{document.key}-with-{number}", text=text)
        found.append(PlantedCode(copy, code, *ask_for(code, number, language)))
    return found


def write_data_set(folder: Path, documents: Sequence[Document], planted: Sequence[PlantedCode]) -> None:
    """Write documents, copies and queries in BEIR's form; a query's id is its number."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = [
        {"_id": document.key, "title": document.title, "text": document.text}
        for document in [*documents, *(one.document for one in planted)]
    ]
    queries = [{"_id": str(number), "text": one.query} for number, one in enumerate(planted)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")
    judged = "".join(f"{number}\t{one.document.key}\t1\n" for number, one in enumerate(planted))
    (folder / "qrels" / f"{SPLIT}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", "utf-8")
