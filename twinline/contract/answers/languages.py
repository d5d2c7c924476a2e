"""The language of a question, as far as its letters and its function words show it: enough to say that a generator may lack it.

A generator states its languages. A question that is surely in another one is answered with a note, for the words that it quotes
are right in any language, and its own sentence may not be.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "HIRAGANA": ("ja",),
    "KATAKANA": ("ja",),
    "HANGUL": ("ko",),
    "CJK": ("zh", "ja"),
    "ARABIC": ("ar", "fa", "ur"),
    "HEBREW": ("he",),
    "CYRILLIC": ("ru", "uk", "bg", "sr"),
    "GREEK": ("el",),
    "DEVANAGARI": ("hi", "mr", "ne"),
    "THAI": ("th",),
}
# Words that questions have, and no other of these languages; two of them decide.
_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "en": _words("what which when where why how does did is are the of and to from with who whose"),
    "de": _words("wer wie wo wann warum welche welcher welches ist sind der die das und nicht für von mit ein eine"),
    "fr": _words("qui quel quelle quels comment pourquoi où quand est sont le les des une dans et pour avec du"),
    "es": _words("quién qué cuál cuándo dónde cómo cuánto cuántos es son el los las una por para con del"),
    "it": _words("chi che quale quando dove come perché quanto è sono il gli della nel una per con di"),
    "pt": _words("quem qual quando onde como quanto quantos é são os uma para com do da não em"),
    "nl": _words("wie wat welke waar wanneer waarom hoe zijn het een van voor niet met en"),
    "tr": _words("kim ne nerede nasıl neden niçin hangi kaç mi mı mu mü nedir kadar ve için bir bu"),
}
# Letters that others of these languages lack: as good as one word, for a name may have them too.
_OWN_LETTERS: Final = {"tr": frozenset("ğışĞİŞ"), "de": frozenset("ß"), "es": frozenset("ñÑ¿¡"), "pt": frozenset("ãõÃÕ")}
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_LEAST_WORDS: Final = 2


def question_languages(text: str) -> tuple[str, ...]:
    """Return the languages that a question may be in; none where neither its letters nor its words show it."""
    words = [unicodedata.normalize("NFC", word) for word in _LETTERS.findall(text)]
    scripts: dict[str, int] = {}
    for character in "".join(words):
        name = unicodedata.name(character, "").partition(" ")[0]
        scripts[name] = scripts.get(name, 0) + 1
    if not scripts:
        return ()
    if scripts.get("HIRAGANA") or scripts.get("KATAKANA"):
        return _NAMES["HIRAGANA"]
    script = max(sorted(scripts), key=lambda name: scripts[name])
    if script != "LATIN":
        return _NAMES.get(script, ())
    # Turkish capital I with a dot lowers to two characters, of which the second is a mark.
    lowered = [word.lower().replace("i\u0307", "i") for word in words]
    counts = {language: sum(word in known for word in lowered) for language, known in _WORDS.items()}
    for language, letters in _OWN_LETTERS.items():
        counts[language] += not letters.isdisjoint(text)
    best = max(counts.values())
    found = tuple(language for language, count in counts.items() if count == best)
    return found if best >= _LEAST_WORDS and len(found) == 1 else ()


def language_note(question: str, languages: Collection[str]) -> str:
    """Return the sentence that is said where a question is in none of a generator's languages; else an empty text."""
    found = question_languages(question)
    if not found or set(found) & set(languages):
        return ""
    return (
        f"the question is in {' or '.join(found)}, the generator was made for {', '.join(languages)}: "
        "quotes are literal, other words of the answer may be wrong"
    )
