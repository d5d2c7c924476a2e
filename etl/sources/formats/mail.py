"""Messages as mail programs save them: the subject and the body. Attachments are named, and not read."""

from email import message_from_bytes
from email.message import MIMEPart
from email.policy import default

from etl.sources.formats.charsets import decode_page
from etl.sources.formats.pages import page_text
from etl.sources.formats.plain import TitleAndText, one_line, parser_errors, stem


def read_eml(data: bytes, name: str) -> TitleAndText:
    """Return the subject and the body of a message: its plain text, else the visible text of its HTML."""
    with parser_errors("eml", name):
        message = message_from_bytes(data, policy=default)
        subject = one_line(message.get("subject"))
        body = message.get_body(("plain", "html"))
        text = "" if body is None else _text(body, name)
        attached = [one_line(part.get_filename() or part.get_content_type()) for part in message.iter_attachments()]
    parts = [text, f"Attachments: {', '.join(attached)}" if attached else ""]
    return subject or stem(name), "\n\n".join(part for part in parts if part)


def _text(part: MIMEPart, name: str) -> str:
    content = part.get_payload(decode=True)
    data, is_html = content if isinstance(content, bytes) else b"", part.get_content_subtype() == "html"
    source = decode_page(data, name, part.get_content_charset() or "", declares=is_html)
    return page_text(source)[1] if is_html else source.replace("\r\n", "\n").strip()
