"""Two chunks say the same, or not: golden cases of version 1, and what holds of any."""

import random

import pytest

from twinline.contract.documents.sameness import LEAST_PERCENT, LEAST_TERMS, SAMENESS_VERSION, Groups, are_near, terms

PAGE = (
    "To roll back a release name it and wait until the store has switched then check that every search is answered by the "
    "earlier encoder and that nobody asks the newer one any more because its model is unloaded an hour later"
    " before going on read the report of its build and compare both lists of hits since most questions should find what they "
    "found yesterday then tell your colleagues"
)
CHINESE = (
    "要回滚一个版本请先说出它的名称然后等待存储切换完成再检查每次搜索是否都由"
    "较早的编码器回答并且没有人再询问较新的编码器因为它的模型将在一小时后被卸载"
)
THAI = "หากต้องการย้อนกลับรุ่นให้ระบุชื่อแล้วรอจนกว่าที่เก็บจะสลับจากนั้นตรวจสอบว่าทุกการค้นหาได้รับคำตอบจากตัวเข้ารหัสก่อนหน้า"
TURKISH = (
    "Bir sürümü geri almak için adını verin ve deponun geçiş yapmasını bekleyin sonra her aramanın önceki kodlayıcı tarafından "
    "yanıtlandığını ve artık kimsenin yenisini sormadığını denetleyin çünkü modeli bir saat sonra ışıksız kalır bundan böyle "
    "iki listeyi karşılaştırın çoğu soru dünkü belgeleri bulmalı ardından arkadaşlarınıza haber verin ki onlar da yeni düzeni"
)


def near(first: str, second: str) -> bool:
    forward = are_near(terms(first), terms(second))
    assert are_near(terms(second), terms(first)) is forward
    return forward


# Changing a verdict below needs another version.
@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (PAGE, PAGE, True),
        (PAGE, PAGE.replace("later", "afterwards"), True),  # one word of sixty
        (PAGE, f"{PAGE} indeed", True),
        (PAGE, "  ".join(PAGE.split()), True),  # spaces are no words
        (PAGE, " ".join(reversed(PAGE.split())), True),  # a set has no order
        (PAGE, f"{PAGE} {PAGE}", True),  # nor a number
        (PAGE, PAGE.replace("To roll back a release name it", "Before deleting any release ask someone"), False),
        (PAGE, PAGE.replace("check that every", "see whether each"), False),  # three words of sixty
        (PAGE, PAGE[: len(PAGE) * 2 // 3], False),  # a part says less
        (PAGE, f"{PAGE} 3.11", False),  # a number more
        (f"{PAGE} for 10 euro", f"{PAGE} for 20 euro", False),  # another price
        (f"{PAGE} AB-1234", f"{PAGE} AC-1234", False),  # another code
        (f"{PAGE} ٣", f"{PAGE} ٤", False),  # digits of any script
        (f"{PAGE} for 10 euro", f"{PAGE} for 10 euros", True),
        ("Steel bolt M8 in a box of a hundred", "Steel bolt M8 in a box of a thousand", False),  # short: equal or not
        ("", "", False),  # nothing says nothing
        (CHINESE, f"{CHINESE}好", True),
        (CHINESE, CHINESE[::-1], False),
        (THAI, THAI.replace("ก่อนหน้า", "ก่อนหน้าๆ"), True),
        (THAI, CHINESE, False),
        (TURKISH, TURKISH.replace("ışıksız", "ıssız"), True),
        (TURKISH, PAGE, False),
    ],
)
def test_the_golden_cases_of_version_1(first: str, second: str, verdict: bool) -> None:
    assert SAMENESS_VERSION == 1
    assert near(first, second) is verdict


@pytest.mark.parametrize("size", [LEAST_TERMS - 1, LEAST_TERMS, 57, 200])
def test_nineteen_twentieths_in_common_is_the_border(size: int) -> None:
    words = [f"word{'abcdefghij'[number % 10]}{'klmnopqrst'[number // 10 % 10]}{'uvw'[number // 100]}" for number in range(size)]
    for added in range(size):
        longer = [*words, *(f"more{'x' * (number + 1)}" for number in range(added))]
        wanted = size >= LEAST_TERMS and 100 * size >= LEAST_PERCENT * len(longer)
        assert are_near(frozenset(words), frozenset(longer)) is wanted, added


def firsts(texts: list[str]) -> list[int]:
    """Return, for each text, the number of the first text of its group."""
    groups: Groups[int] = Groups()
    found = []
    for number, text in enumerate(texts):
        first = groups.first_of(number, str(number), text)
        found.append(number if first is None else first)
    assert len(groups) == len(set(found))
    return found


def test_a_group_is_what_its_first_says_whatever_comes_later() -> None:
    drawn = random.Random(18)
    words, texts = PAGE.split(), []
    for _ in range(60):
        # A chain: each is near the one before it, its ends are not near each other.
        words = [*words]
        words[drawn.randrange(len(words))] = "".join(drawn.choices("abcdefgh", k=9))
        texts.append(" ".join(words))
    found = firsts(texts)
    assert 2 < len(set(found)) < 60
    assert all(number == first or near(texts[first], texts[number]) for number, first in enumerate(found))
    for length in range(60):
        assert firsts(texts[:length]) == found[:length]


def test_an_equal_hash_needs_no_text() -> None:
    groups: Groups[str] = Groups()
    assert groups.first_of("first", "hash", "short") is None
    assert groups.first_of("second", "hash", "something else entirely") == "first"
    assert groups.first_of("third", "other", "short", may_begin=False) is None  # too short to be near
    assert groups.first_of("fourth", "other", "short") is None  # the third began no group
    assert groups.first_of("fifth", "other", "short") == "fourth"
    assert len(groups) == 2
