from __future__ import annotations

import json
from email import message_from_bytes
from urllib.parse import unquote, urlsplit

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _http_steps as steps
from hypothesis import given
from hypothesis import strategies as st

texts = st.text(st.characters(codec="utf-8"), max_size=30)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | texts.filter(lambda text: "{" not in text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def test_a_place_alone_keeps_its_type_and_within_a_text_becomes_text():
    values = {"brand": 7, "token": "ab12"}
    template = {"brand_id": "{brand}", "name": "check {token} of {brand}", "tags": ["{token}", 1], "deep": {"x": None}}
    assert steps.fill(template, values) == {
        "brand_id": 7,
        "name": "check ab12 of 7",
        "tags": ["ab12", 1],
        "deep": {"x": None},
    }
    with pytest.raises(steps.StepError, match="no earlier step takes 'asset'"):
        steps.fill(["{asset}"], values)


@given(plain)
def test_what_holds_no_place_stays_as_it_is(template):
    assert steps.fill(template, {}) == template


@given(texts)
def test_a_value_can_not_leave_its_place_in_the_address(value):
    parts = urlsplit(steps.fill_url("http://h:1/api/{x}/content?id={x}", {"x": value}))
    assert (parts.scheme, parts.netloc, parts.fragment) == ("http", "h:1", "")
    assert parts.path.split("/")[1] == "api" and parts.path.count("/") == 3
    assert unquote(parts.query) == f"id={value}"


@given(st.lists(plain, min_size=1, max_size=4), st.data())
def test_a_path_leads_to_its_value(items, data):
    place = data.draw(st.integers(0, len(items) - 1))
    body = json.dumps({"data": {"items": items}}).encode()
    assert steps.take({"x": f"data.items.{place}"}, body) == {"x": items[place]}


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (b"[]", steps.NothingThere, "empty list"),
        (b"<html>", steps.StepError, "not JSON: <html>"),
        (b"\xff\xfe", steps.StepError, "not JSON"),
        (b'{"items": []}', steps.StepError, r"holds no '0\.id': \{\"items\": \[\]\}"),
        (b'[{"name": 1}]', steps.StepError, "holds no"),
        (b"[1]", steps.StepError, "holds no"),
        (b"null", steps.StepError, "holds no"),
    ],
)
def test_an_answer_without_the_value_says_what_it_was(body, error, message):
    with pytest.raises(error, match=message):
        steps.take({"id": "0.id"}, body)
    assert steps.take({}, body) == {}


@given(st.binary(max_size=200), texts)
def test_an_upload_is_what_a_mail_parser_reads(content, name):
    body, kind = steps.multipart("file", name, content, "boundary-0123456789abcdef")
    message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    (part,) = message.get_payload()
    head, _, rest = body.partition(b"\r\n\r\n")
    assert head.count(b"\r\n") == 2
    assert rest == content + b"\r\n--boundary-0123456789abcdef--\r\n"
    assert part.get_param("name", header="content-disposition") == "file"
