"""Languages: the stemmer of each, its case rule and its stop words; and which of them a corpus is written in.

A stop word carries no meaning of its own, and would take a third of the index. The lists are function words alone: articles,
prepositions, pronouns, conjunctions, auxiliary verbs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from twinline.contract.encoder.sparse_settings import NO_LANGUAGE

# A corpus is in a language if at least half of the usual share of its words are that language's stop words.
_LEAST_OF_USUAL: Final = 0.5


@dataclass(frozen=True, slots=True)
class Language:
    """One language.

    Attributes:
        stemmer: the name of the Snowball algorithm.
        stop_words: in lower case, with their accents.
        usual_share: of stop words among the words of ordinary prose.
        dotless_i: whether the lower case of I is the dotless i, as in Turkish.
    """

    stemmer: str
    stop_words: frozenset[str]
    usual_share: float
    dotless_i: bool = False


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LANGUAGES: Final[Mapping[str, Language]] = {
    "english": Language(
        "english",
        _words(
            "a an the this that these those i you he she it we they me him her us them my your his its our their and or but nor "
            "if then than so as at by for from in into of off on onto out over to under up with within without about between "
            "is am are was were be been being do does did have has had will would shall should can could may might must not no "
            "there here what which who whom whose when where why how such also both each any some all more most other only own "
            "same too very just during before after above below again further once while because until through against"
        ),
        0.42,
    ),
    "german": Language(
        "german",
        _words(
            "der die das den dem des ein eine einen einem einer eines und oder aber nicht kein keine ich du er sie es wir ihr "
            "mich dich sich uns euch ihm ihn ihnen mein dein sein unser in im an am auf aus bei beim mit nach von vom vor zu zum "
            "zur über unter durch für gegen ohne um ist sind war waren wird werden wurde wurden hat haben hatte hatten kann "
            "können als wie wenn dass ob so auch noch nur schon sehr dieser diese dieses was wer wo"
        ),
        0.42,
    ),
    "french": Language(
        "french",
        _words(
            "le la les l un une des de du d et ou mais ne pas n je tu il elle on nous vous ils elles me te se s lui leur y en "
            "à au aux dans par pour sur avec sans sous entre vers chez ce cet cette ces c mon ton son ma ta sa mes tes ses notre "
            "votre nos vos leurs qui que qu quoi dont où est sont était étaient être a ont avait été sera plus si comme"
        ),
        0.45,
    ),
    "spanish": Language(
        "spanish",
        _words(
            "el la los las un una unos unas de del al a en y e o u pero no ni que se lo le les me te nos yo tú él ella ellos "
            "ellas con sin por para sobre entre hasta desde como más su sus mi mis tu tus este esta estos estas ese esa eso es "
            "son era eran ser fue fueron ha han había hay qué quién cuál donde cuando si ya también muy"
        ),
        0.45,
    ),
    "italian": Language(
        "italian",
        _words(
            "il lo la i gli le un uno una di del dello della dei degli delle a al allo alla ai agli alle da dal dalla dai dalle "
            "in nel nella nei nelle su sul sulla con per tra fra e ed o ma non che chi cui si ci ne mi ti lo li è sono era erano "
            "essere stato stata ha hanno aveva come più anche questo questa questi queste"
        ),
        0.42,
    ),
    "portuguese": Language(
        "portuguese",
        _words(
            "o a os as um uma uns umas de do da dos das em no na nos nas ao à aos às por pelo pela para com sem sobre entre e ou "
            "mas não que se me te lhe nos ele ela eles elas seu sua seus suas este esta isto é são era foi foram ser tem como "
            "mais também já"
        ),
        0.42,
    ),
    "dutch": Language(
        "dutch",
        _words(
            "de het een en of maar niet geen ik je jij hij zij ze wij we u mij me hem haar ons hun mijn zijn in op aan bij van "
            "voor met naar uit over onder door tot om te is was waren wordt werd worden heeft hebben had kan dat die dit deze er "
            "als dan ook nog"
        ),
        0.42,
    ),
    "turkish": Language(
        "turkish",
        _words(
            "ve veya ya da de ki ile için bir bu şu o ben sen biz siz onlar mi mı mu mü ne gibi kadar göre sonra önce "
            "daha çok en her hem ama fakat ancak olarak olan oldu olduğu olup ise değil var yok"
        ),
        0.16,
        dotless_i=True,
    ),
}


def find_language(counts: Mapping[str, int]) -> str:
    """Return the language of a corpus by the share of its words that are stop words of one; `none` where none stands out.

    Args:
        counts: how often each word occurs, in lower case and not stemmed.
    """
    total = sum(counts.values())
    shares = {
        name: sum(counts.get(word, 0) for word in language.stop_words) / total / language.usual_share
        for name, language in LANGUAGES.items()
        if total
    }
    best = max(sorted(shares), key=lambda name: shares[name], default=NO_LANGUAGE)
    return best if shares.get(best, 0.0) >= _LEAST_OF_USUAL else NO_LANGUAGE
