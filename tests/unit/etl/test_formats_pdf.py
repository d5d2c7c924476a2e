"""PDF: the letters behind ligatures, the words behind line ends, titles of any type, passwords."""

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter

from etl.sources.formats.pdf import letters, read_pdf, words_joined
from tests.unit.etl.test_etl_files import pdf
from twinline.contract.errors import DocumentError


def titled(title: str) -> bytes:
    """Return a PDF whose information says /Title and what follows."""
    content = b"BT /F1 12 Tf 72 700 Td (Text of a yearly report) Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        f"<</Title {title}>>".encode("latin-1"),
        b"(An indirect title)",
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, thing in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj%sendobj\n" % (number, thing)
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    tail = f"{table}trailer<</Size {size}/Root 1 0 R/Info 6 0 R>>\nstartxref\n{len(data)}\n%%EOF"
    return data + f"xref\n0 {size}\n0000000000 65535 f \n{tail}".encode()


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("2024", "2024"),
        ("20.5", "20.5"),
        ("(Plain)", "Plain"),
        ("( Two\n lines )", "Two lines"),
        ("()", "report"),
        ("<FEFF0066FB01006C0065>", "ffile"),  # a ligature in UTF-16
        ("<FEFF0066FB016C0065>", "report"),  # no text in any encoding of PDF
        ("true", "report"),
        ("/Name", "/Name"),
        ("7 0 R", "An indirect title"),
        ("null", "report"),
        ("99 0 R", "report"),
        ("[1 2]", "report"),
        ("<</A 1>>", "report"),
    ],
)
def test_the_title_may_be_of_any_type(title: str, shown: str) -> None:
    assert read_pdf(titled(title), "folder/report.pdf") == (shown, "Text of a yearly report")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\ufb01le o\ufb00ice", "file office"),
        ("o\ufb03ce wa\ufb04e \ufb02ow", "office waffle flow"),
        ("\ufb05amp mi\ufb06", "stamp mist"),
        ("\ufb13 \ufb17", "մն մխ"),  # Armenian
        ("\ufedf\ufe8e", "لا"),  # Arabic letters by their place in a word
        ("\ufefb", "لا"),
        ("\ufb2a", "ש\u05c1"),
        ("½ x² ™ ①", "½ x² ™ ①"),  # signs, not glyphs for letters: they stay
        ("ĳ ǆ œ æ ß", "ĳ ǆ œ æ ß"),  # letters
        ("plain", "plain"),
        ("\ufeff", "\ufeff"),
    ],
)
def test_presentation_forms_are_the_letters_that_they_stand_for(text: str, plain: str) -> None:
    assert letters(text) == plain


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("infor-\nmation", "information"),
        ("infor\u00ad\nmation", "information"),
        ("infor\u2010\nmation here", "information here"),
        ("infor- \n  mation", "information"),
        ("Straßen-\nbahn", "Straßenbahn"),
        ("инфор-\nмация", "информация"),
        ("in-\nfor-\nmation", "information"),
        ("Infor-\nmation and infor-\nmation", "Information and information"),
        ("micro-\nservice; microservice", "microservice; microservice"),
        # real hyphens
        ("a well-known fact, well-\nknown", "a well-known fact, well-known"),
        ("Well-known. It is well-\nknown", "Well-known. It is well-known"),
        ("state-of-the-\nart", "state-of-the-art"),
        ("an e-\nmail and an x-\nray", "an e-mail and an x-ray"),
        ("COVID-19-\nrelated, 3-\nfold", "COVID-19-related, 3-fold"),
        ("pre-\nand post-war", "pre-\nand post-war"),
        ("Vor-\nund Nachteile", "Vor-\nund Nachteile"),
        ("Austria-\nHungary", "Austria-\nHungary"),
        ("pages 3-\n5", "pages 3-\n5"),
        ("a dash -\nnot a hyphen", "a dash -\nnot a hyphen"),
        ("an em\u2014\ndash", "an em\u2014\ndash"),
        ("- one\n- two", "- one\n- two"),
        ("end-\n\nnew paragraph", "end-\n\nnew paragraph"),
        ("--option-\n-name", "--option-\n-name"),
        ("", ""),
    ],
)
def test_a_word_that_a_line_end_broke_is_whole_and_real_hyphens_stay(text: str, joined: str) -> None:
    assert words_joined(text) == joined


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[a-z]{4,12}", fullmatch=True), min_size=1, max_size=40), st.data())
def test_words_broken_anywhere_come_back(words: list[str], data: st.DataObject) -> None:
    broken = []
    for word in words:
        at = data.draw(st.integers(2, len(word) - 2))
        is_conjunction = word[at:] in {"and", "or", "nor", "to", "und", "oder", "bis", "et", "ou"}
        broken.append(word if is_conjunction or data.draw(st.booleans()) else f"{word[:at]}-\n{word[at:]}")
    assert words_joined(" ".join(broken)) == " ".join(words)


def test_long_texts_of_hyphens_and_letters_end() -> None:
    for text in ("a-" * 200_000, "-\n" * 200_000, "ab-\n" * 200_000, "a" * 1_000_000 + "-", "-" * 400_000):
        assert words_joined(text).replace("-", "").replace("\n", "") == text.replace("-", "").replace("\n", "")


def test_a_pdf_reads_with_ligatures_and_joined_lines() -> None:
    # 0o256 is the fi ligature in Adobe's standard encoding, which Helvetica has by itself.
    content = "infor-) Tj 0 -14 Td (mation on \\256le"
    assert read_pdf(pdf(content), "a.pdf")[1] == "information on file"


@pytest.mark.parametrize(("password", "is_read"), [("", True), ("secret", False)])
def test_an_encrypted_pdf_is_read_if_its_password_is_empty_and_told_if_not(password: str, is_read: bool) -> None:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf("Locked words"))))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    stream = BytesIO()
    writer.write(stream)
    if is_read:
        assert read_pdf(stream.getvalue(), "a.pdf")[1] == "Locked words"
        return
    with pytest.raises(DocumentError, match=r"a.pdf: it needs a password: save it without one") as caught:
        read_pdf(stream.getvalue(), "a.pdf")
    assert caught.value.reason == "encrypted"
