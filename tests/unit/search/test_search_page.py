"""The page: whole without JavaScript, other people's text escaped, nothing from elsewhere."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

ATTACK = '<script>alert(1)</script> "><img src=x onerror=alert(2)> cats'


class Elements(HTMLParser):
    """The elements of a page and their attributes, as a browser sees them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str | None] = []
        self.dangers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.scripts.append(dict(attrs).get("src"))
        if tag in ("img", "iframe", "object"):
            self.dangers.append(tag)
        self.dangers += [name for name, _ in attrs if name.startswith("on") or name == "style"]


def test_the_first_page_says_what_is_searched(world: Any) -> None:
    page = world.client.get("/").text
    assert "Search 3 documents by meaning" in page
    assert "space-r1" in page


def test_hits_are_in_the_page_without_javascript(world: Any) -> None:
    page = world.client.get("/", params={"q": "cats sleep"}).text
    assert '<h2 id="hit-1">On cats</h2>' in page
    assert "<mark>cats</mark> <mark>sleep</mark> all day" in page
    for fact in ("space-r1", "contract-r1", "42", "snapshot-r1", "run-7"):
        assert fact in page


def test_text_of_documents_and_queries_is_escaped_everywhere(world: Any) -> None:
    world.add("r1", f"key {ATTACK}", ATTACK, source=f"src {ATTACK}", title=f"title {ATTACK}", tenant=ATTACK)
    for params in ({"q": ATTACK}, {"q": "cats", "source": ATTACK, "tenant": ATTACK}, {"q": "cats", "limit": ATTACK}):
        page = world.client.get("/", params=params).text
        elements = Elements(page)
        assert elements.scripts == ["/static/search.js"]
        assert elements.dangers == []


def test_the_browser_is_told_to_run_and_load_nothing_that_is_not_ours(world: Any) -> None:
    response = world.client.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.findall(r"(?:https?:)?//[a-z]", response.text)
    for asset in re.findall(r"(?:src|href)=\"(/static/[^\"]+)\"", response.text):
        assert world.client.get(asset).status_code == 200


def test_a_fragment_is_the_results_alone(world: Any) -> None:
    fragment = world.client.get("/", params={"q": "cats"}, headers={"X-Fragment": "results"}).text
    assert "On cats" in fragment
    assert "<html" not in fragment


@pytest.mark.parametrize(("query", "status"), [("", 503), ("cats", 503)])
def test_without_a_release_the_page_says_what_to_do(world: Any, query: str, status: int) -> None:
    world.store.active_name = None
    response = world.client.get("/", params={"q": query})
    assert response.status_code == status
    assert 'role="alert"' in response.text
    assert "twinline demo" in response.text


def test_an_encoder_that_is_away_is_said_on_the_page(world: Any, away: Exception) -> None:
    world.served["r1"].embedder.failure = away
    response = world.client.get("/", params={"q": "cats"})
    assert response.status_code == 503
    assert "start it with" in response.text


def test_nothing_found_is_said_in_words(world: Any) -> None:
    page = world.client.get("/", params={"q": "cats", "source": "nowhere"}).text
    assert "Nothing found" in page


def test_a_query_that_is_too_long_is_an_error_on_the_page(world: Any) -> None:
    response = world.client.get("/", params={"q": "x" * 9_000})
    assert response.status_code == 400
    assert 'role="alert"' in response.text
