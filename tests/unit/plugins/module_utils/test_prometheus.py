from __future__ import annotations

import gzip
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import _prometheus as prom
from ansible_collections.sparklio.rollback.plugins.module_utils import fetch, prometheus, scrape
from ansible_collections.sparklio.rollback.plugins.module_utils._error_rate import Scrape
from hypothesis import given
from hypothesis import strategies as st

DEFAULTS = {name: option.get("default") for name, option in scrape.CONNECTION_SPEC.items()}
HOST = (("instance", "a:8000"), ("job", "app"))


def of(name, labels, *samples):
    return prom.Series(name, tuple(sorted({**dict(HOST), **labels}.items())), list(samples))


@given(st.text())
def test_a_string_is_quoted_so_that_a_selector_reads_it_back(text):
    assert ex.parse_selector(f"a={prom.quoted(text)}").matchers == (("a", "=", text),)


def test_an_answer_is_read():
    found = {
        "resultType": "matrix",
        "result": [{"metric": {"__name__": "m", "b": "1", "a": "2"}, "values": [[1, "3"]]}],
    }
    body = json.dumps({"status": "success", "data": found}).encode()
    assert prom.series(prom.data(body)) == [prom.Series("m", (("a", "2"), ("b", "1")), [(1.0, 3.0)])]
    instant = {"resultType": "vector", "result": [{"metric": {}, "value": [1.5, "+Inf"]}]}
    assert prom.series(instant) == [prom.Series("", (), [(1.5, float("inf"))])]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "something else than the API"),
        (b"[1]", "something else than the API"),
        (b"{}", "something else than the API"),
        (b"[" * 100_000, "something else than the API"),
        (b'{"status": "error", "error": "parse error: x"}', "refused: parse error: x"),
        (b'{"status": "error"}', "refused: error"),
    ],
)
def test_answers_of_others(body, message):
    with pytest.raises(prom.AnswerError, match=message):
        prom.data(body)


@pytest.mark.parametrize(
    "found",
    [
        None,
        {"resultType": "scalar", "result": [1, "2"]},
        {"resultType": "matrix", "result": [{"values": []}]},
        {"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "many"]]}]},
        {"resultType": "matrix", "result": [{"metric": {}, "values": [1]}]},
        {"resultType": "matrix", "result": 1},
    ],
)
def test_results_that_are_no_series(found):
    with pytest.raises(prom.AnswerError):
        prom.series(found)


def test_a_warning_means_that_something_may_be_missing():
    with pytest.raises(prom.Incomplete, match="a store is down"):
        prom.data(b'{"status": "success", "data": [], "warnings": ["a store is down"]}')


def test_scrapes_that_brought_no_counter_are_scrapes_too():
    """So that a series which comes later counts from 0; those that failed are none."""
    counter = of("m", {"code": "500"}, (10, 4), (15, 5))
    up = of("up", {}, (0, 1), (5, 0), (10, 1), (15, 1))
    began = of("process_start_time_seconds", {}, (0, 7), (10, 7), (15, 7))
    found = prom.targets([counter], [up, began])
    series = counter.labels
    scrapes = [Scrape(0, {}, 7), Scrape(10, {series: 4}, 7), Scrape(15, {series: 5}, 7)]
    assert found == [prom.Target(HOST, True, scrapes)]
    assert prom.shown(found[0].labels) == "app a:8000"
    found = prom.targets([counter], [up])
    assert found[0].scrapes == [Scrape(0, {}), Scrape(10, {series: 4}), Scrape(15, {series: 5})]


def test_each_counter_belongs_to_the_target_whose_labels_it_bears():
    more = {"instance": "b:8000", "zone": "1"}
    counters = [of("m", {}, (1, 1)), of("m", {**more, "code": "500"}, (1, 2)), of("m", {"instance": "c:1"}, (1, 3))]
    about = [of("up", {}, (1, 1)), of("up", more, (1, 0)), of("up", {"instance": "d:1"}, (1, 1))]
    found = {prom.shown(target.labels): target for target in prom.targets(counters, about)}
    assert {name: target.up for name, target in found.items()} == {
        "app a:8000": True,
        "app b:8000": False,
        "app c:1": True,
    }
    assert [list(scrape.counters.values()) for scrape in found["app b:8000"].scrapes] == [[2]]
    assert [scrape.started for scrape in found["app c:1"].scrapes] == [None]


ANSWERS = {
    "/p/api/v1/query": (200, {"resultType": "vector", "result": [{"metric": {"job": "a"}, "value": [1, "1"]}]}),
    "/p/api/v1/label/__name__/values": (200, ["up", "m_total"]),
    "/p/api/v1/metadata": (200, {}),
}


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            httpd.asked.append((parts.path, parse_qs(parts.query), self.headers.get("Authorization")))
            status, body = httpd.answers.get(parts.path, (404, b"404 page not found"))
            if not isinstance(body, bytes):
                body = gzip.compress(json.dumps({"status": "success", "data": body}).encode())
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if body.startswith(b"\x1f"):
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.asked, httpd.answers = [], dict(ANSWERS)
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/p/"
    Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def test_a_server_is_asked(server):
    asks = prometheus.Server(server.url, {**DEFAULTS, "bearer_token": "abc"})
    assert asks.query('m{a="1"}[60s]') == [prom.Series("", (("job", "a"),), [(1.0, 1.0)])]
    assert asks.names() == ["up", "m_total"]
    assert not asks.declared("m_total")
    server.answers["/p/api/v1/metadata"] = (200, {"m_total": [{}]})
    assert asks.declared("m_total")
    assert server.asked[0] == ("/p/api/v1/query", {"query": ['m{a="1"}[60s]']}, "Bearer abc")
    assert [query for path, query, _token in server.asked if path.endswith("metadata")] == [
        {"metric": ["m_total"]}, {"metric": ["m"]}, {"metric": ["m_total"]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "problem", "message"),
    [
        (401, b"Unauthorized", scrape.NothingToMeasure, "answered 401: log in by bearer_token"),
        (404, b"404 page not found", scrape.NothingToMeasure, r"something else .* \(status 404\)"),
        (200, b"<html>", scrape.NothingToMeasure, "something else"),
        (400, b'{"status":"error","error":"parse error"}', scrape.NothingToMeasure, "refused: parse error"),
        (503, b'{"status":"error","error":"timed out"}', fetch.FetchError, "answered 503"),
        (200, b'{"status":"success","data":[],"warnings":["x"]}', fetch.FetchError, "may be incomplete"),
        (200, b" " * (2 << 20), scrape.NothingToMeasure, "narrow the selectors or raise max_body_mib"),
    ],
)
def test_answers_that_help_and_those_that_may_next_time(server, status, body, problem, message):
    server.answers["/p/api/v1/query"] = (status, body)
    asks = prometheus.Server(server.url.replace("//", "//me:hunter22@"), {**DEFAULTS, "max_body_mib": 1})
    with pytest.raises(problem, match=message) as caught:
        asks.query("up")
    assert "hunter22" not in str(caught.value)
    assert server.asked[0][2].startswith("Basic ")
