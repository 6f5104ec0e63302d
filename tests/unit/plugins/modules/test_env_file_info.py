from __future__ import annotations

import json
import os

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _dotenv
from ansible_collections.sparklio.rollback.plugins.modules import env_file_info
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("value", "host", "port", "origin"),
    [
        ("http://127.0.0.1:9000", "127.0.0.1", 9000, "http://127.0.0.1:9000"),
        ("minio:9000", "minio", 9000, "http://minio:9000"),
        ("https://s3.example.org/bucket?x=1", "s3.example.org", 443, "https://s3.example.org:443"),
        ("postgresql+psycopg://u:p@w/o@db/name", "db", 5432, "postgresql://db:5432"),
        ("redis://:secret@[::1]:6380/0", "::1", 6380, "redis://[::1]:6380"),
    ],
)
def test_an_address_is_its_host_and_port(value, host, port, origin):
    found = _dotenv.address(value)
    assert (found["host"], found["port"], found["origin"]) == (host, port, origin)


@pytest.mark.parametrize("value", ["", "postgresql:///name", "http://host:port/", "http://[::1/"])
def test_what_names_no_host_is_no_address(value):
    assert _dotenv.address(value) is None


@given(st.text())
def test_any_text_is_an_address_or_none(value):
    found = _dotenv.address(value)
    assert found is None or found["host"]


@given(st.text(st.characters(blacklist_categories=("Cc", "Cs", "Z")), min_size=6))
def test_a_password_stays_where_it_is(password):
    found = _dotenv.address(f"postgresql://user:{password}-secret@db.internal:5432/name")
    assert found["host"] == "db.internal"
    assert "secret" not in json.dumps(found)


def test_files_are_read_and_only_what_was_asked_for_is_told(call, tmp_path):
    first, second, gone = (str(tmp_path / name) for name in ("a.env", "b.env", "c.env"))
    with open(first, "w") as stream:
        stream.write("DATABASE_URL=postgresql://u:hunter22@db/x\nOLLAMA_MODEL=old\nAPI_KEY=hunter22\n")
    with open(second, "w") as stream:
        stream.write("OLLAMA_MODEL=qwen2.5:7b\n")
    os.utime(first, (1000, 1000))
    found = call(
        env_file_info, paths=[first, second, gone], addresses=["DATABASE_URL", "S3_ENDPOINT"], values=["OLLAMA_MODEL"]
    )
    assert found["files"][0]["modified"] == 1000
    assert (found["files"][2]["modified"], found["files"][2]["error"]) == (None, "No such file or directory")
    assert found["addresses"] == {
        "DATABASE_URL": {"scheme": "postgresql", "host": "db", "port": 5432, "origin": "postgresql://db:5432"}
    }
    assert found["values"] == {"OLLAMA_MODEL": "qwen2.5:7b"}
    assert "hunter22" not in json.dumps({key: value for key, value in found.items() if key != "invocation"})


def test_a_secret_is_refused(call, tmp_path):
    found = call(env_file_info, paths=[str(tmp_path / "x")], values=["API_KEY"])
    assert found["failed"] and "API_KEY" in found["msg"]
