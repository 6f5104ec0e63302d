from __future__ import annotations

import base64

import pytest
from ansible_collections.sparklio.rollback.plugins.doc_fragments.metrics import ModuleDocFragment
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch, scrape
from yaml import safe_load

DEFAULTS = {name: option.get("default") for name, option in scrape.SPEC.items()}


def test_the_fragment_documents_what_the_modules_take():
    documented = safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    for name, option in scrape.SPEC.items():
        for key in ("type", "elements", "default", "required", "aliases"):
            assert documented[name].get(key) == option.get(key), (name, key)
    assert list(documented) == list(scrape.SPEC)


def test_ways_to_log_in(tmp_path):
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    basic = "Basic " + base64.b64encode("a:p:ä".encode()).decode()
    for given, header in [
        ({}, None),
        ({"bearer_token": "abc"}, "Bearer abc"),
        ({"bearer_token_file": str(file)}, "Bearer s3cret"),
        ({"url_username": "a", "url_password": "p:ä"}, basic),
    ]:
        assert scrape.authorization({**DEFAULTS, **given}).get("Authorization") == header


@pytest.mark.parametrize(
    ("token", "message"),
    [("a b", "a space, a line break"), ("hunter22\nX: y", "a line break"), ("", "is empty"), (None, "No such file")],
)
def test_tokens_that_cannot_be_sent_are_refused_and_not_shown(tmp_path, token, message):
    file = tmp_path / "file"
    if token is not None:
        file.write_text(token)
    with pytest.raises(ValueError, match=message) as caught:
        scrape.Pages({**DEFAULTS, "bearer_token_file": str(file)})
    assert "hunter22" not in str(caught.value)


def test_pages_are_read_and_what_they_lack_is_named(web):
    url = web({"/metrics": '# TYPE a_total counter\na_total{x="1"} 2\nb_seconds 3\n', "/html": "<html></html>\n"})
    pages = scrape.Pages(DEFAULTS)
    page = pages.read(url + "metrics", ["a_total"])
    assert page.samples == {"a_total": {(("x", "1"),): 2.0}}
    assert pages.known_names(url + "metrics") == ["a_total", "b_seconds"]
    scrape.require(page, "a_total", url, pages.known_names)
    with pytest.raises(scrape.NothingToMeasure, match="has no metric a_totals; the nearest names are a_total"):
        scrape.require(page, "a_totals", url + "metrics", pages.known_names)
    with pytest.raises(scrape.NothingToMeasure, match="no name there is similar"):
        scrape.require(page, "zzz", url + "metrics", pages.known_names)
    with pytest.raises(scrape.NothingToMeasure, match="answered 404"):
        pages.read(url + "missing", ["a_total"])
    with pytest.raises(ex.ExpositionError, match=r"^GET http.*HTML"):
        pages.read(url + "html", ["a_total"])
    with pytest.raises(fetch.FetchError, match="connection refused"):
        pages.read("http://127.0.0.1:1/", ["a_total"])


def test_a_page_that_is_too_large_says_what_to_do(web):
    url = web({"/": "x 1\n" * 400_000})
    with pytest.raises(scrape.NothingToMeasure, match=r"more than 1048576 bytes.*max_body_mib"):
        scrape.Pages({**DEFAULTS, "max_body_mib": 1}).read(url, ["a"])
