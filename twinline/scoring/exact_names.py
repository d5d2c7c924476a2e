"""Planted queries: exact names and codes that one document of a corpus alone has, each bare or inside a sentence.

chunk texts ──names──> those of one document ──chosen by hash──> queries whose right answer is certain

The corpus's content alone decides them: no clock, no chance, and no question that a training has seen.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal

from twinline.contract.documents.sameness import Groups
from twinline.contract.sparse.analyzer import words
from twinline.contract.sparse.names import names
from twinline.scoring.retrieval import Run, trec_order

Form = Literal["bare", "in a sentence"]
FORMS: Final[tuple[Form, ...]] = ("bare", "in a sentence")

_SHORTEST: Final = 4
# Nobody types a longer one.
_LONGEST: Final = 40
# Versions of one page are one answer; a name of more documents is looked at no further.
_MOST_COPIES: Final = 8

_FRAMES: Final[Mapping[str, Sequence[str]]] = {
    "english": ("What does {} mean?", "Where is {} described?", "I am looking for {}, what is known about it?"),
    "german": ("Was bedeutet {}?", "Wo wird {} beschrieben?", "Ich suche {}, was ist darüber bekannt?"),
    "french": ("Que signifie {} ?", "Où est décrit {} ?", "Je cherche {}, qu'est-ce qu'on en sait ?"),
    "spanish": ("¿Qué significa {}?", "¿Dónde se describe {}?", "Busco {}, ¿qué se sabe de eso?"),
    "italian": ("Che cosa significa {}?", "Dove è descritto {}?", "Cerco {}, che cosa se ne sa?"),
    "portuguese": ("O que significa {}?", "Onde é descrito {}?", "Procuro {}, o que se sabe disso?"),
    "dutch": ("Wat betekent {}?", "Waar wordt {} beschreven?", "Ik zoek {}, wat is daarover bekend?"),
    "turkish": ("{} ne anlama geliyor?", "{} nerede anlatılıyor?", "{} hakkında ne biliniyor?"),
}


@dataclass(frozen=True, slots=True)
class PlantedQuery:
    """A query whose right answer is certain: any of `documents`, which are one document and its copies."""

    id: str
    text: str
    form: Form
    documents: frozenset[str]


@dataclass(frozen=True, slots=True)
class Planted:
    """The planted queries of a corpus, none where it has too few names, and how many names are one document's alone."""

    queries: Sequence[PlantedQuery]
    names: int


def plant(
    document_ids: Sequence[str],
    chunk_counts: Sequence[int],
    chunk_texts: Sequence[str],
    language: str,
    *,
    least: int,
    most: int,
) -> Planted:
    """Return at most `most` queries, a bare name and a name inside a sentence in turn; none of fewer than `least` names.

    Args:
        chunk_counts: of each document; its chunks lie next to each other in `chunk_texts`.
        language: of the sentences; English where there are none in it.
    """
    owners = [document for document, count in zip(document_ids, chunk_counts, strict=True) for _ in range(count)]
    found = _of_one_document(owners, chunk_texts)
    if len(found) < least:
        return Planted((), len(found))
    chosen = _spread(found)[:most]
    return Planted(
        [PlantedQuery(str(number), *ask_for(name, number, language), found[name]) for number, name in enumerate(chosen)],
        len(found),
    )


def ask_for(name: str, number: int, language: str) -> tuple[str, Form]:
    """Return the text of the query of that number: the bare name where it is even, else a sentence with it."""
    form = FORMS[number % len(FORMS)]
    frames = _FRAMES.get(language, _FRAMES["english"])
    return name if form == "bare" else frames[number // len(FORMS) % len(frames)].format(name), form


def shares_first(queries: Sequence[PlantedQuery], run: Run) -> dict[Form, float]:
    """Return the share of queries whose right answer comes first, by form."""
    missed = {query.id for query in _missed(queries, run)}
    by_form = {form: [query.id not in missed for query in queries if query.form == form] for form in FORMS}
    return {form: sum(firsts) / len(firsts) for form, firsts in by_form.items() if firsts}


def not_first(queries: Sequence[PlantedQuery], run: Run) -> list[str]:
    """Return the texts of the queries whose right answer does not come first."""
    return [query.text for query in _missed(queries, run)]


def _missed(queries: Sequence[PlantedQuery], run: Run) -> list[PlantedQuery]:
    return [query for query in queries if query.documents.isdisjoint(trec_order(run.get(query.id, {}))[:1])]


def _of_one_document(owners: Sequence[str], texts: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return each name that one document alone has, or several that say the same, with those documents."""
    spelled: dict[str, str] = {}
    for text in texts:
        for name in names(text):
            # A word in capitals is stemmed, so its term may be another word's too.
            if _SHORTEST <= len(name) <= _LONGEST and not (name.isalpha() and name.isupper()):
                spelled.setdefault("".join(words(name)), name)
    begun = {key[:length] for key in spelled for length in range(1, len(key))}
    rows: dict[str, dict[str, int]] = defaultdict(dict)
    for row, (owner, text) in enumerate(zip(owners, texts, strict=True)):
        for key in _occurring(words(text), spelled.keys(), begun):
            rows[key].setdefault(owner, row)
    return {spelled[key]: frozenset(by) for key, by in rows.items() if _say_the_same([texts[row] for row in by.values()])}


def _occurring(parts: Sequence[str], keys: AbstractSet[str], begun: AbstractSet[str]) -> Iterator[str]:
    """Yield the names that a text has in any spelling: `max_tokens` is in `self.max_tokens`, `maxTokens` and `max tokens`."""
    for start in range(len(parts)):
        joined = ""
        for part in parts[start:]:
            joined += part
            if joined in keys:
                yield joined
            if joined not in begun:
                break


def _say_the_same(texts: Sequence[str]) -> bool:
    if len(texts) > _MOST_COPIES:
        return False
    groups: Groups[int] = Groups()
    for number, text in enumerate(texts):
        groups.first_of(number, text, text)
    return len(groups) == 1


def _spread(found: Mapping[str, frozenset[str]]) -> list[str]:
    """Return names in an order that their hashes decide: of every document the first one, then of every document the second."""
    seen: dict[frozenset[str], int] = defaultdict(int)
    placed: list[tuple[int, str, str]] = []
    for hashed, name in sorted((hashlib.sha256(name.encode()).hexdigest(), name) for name in found):
        placed.append((seen[found[name]], hashed, name))
        seen[found[name]] += 1
    return [name for _, _, name in sorted(placed)]
