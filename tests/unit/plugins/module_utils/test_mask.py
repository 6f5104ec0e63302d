from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _mask
from hypothesis import given
from hypothesis import strategies as st

WORDS = st.text(st.characters(codec="ascii", exclude_categories=("Cc", "Zs"), exclude_characters="'\""), min_size=4)


@pytest.mark.parametrize(
    "text",
    [
        "could not connect to postgresql://sparklio_user:hunter22@db/sparklio_v4",
        "redis://:hunter22@127.0.0.1:6379/0",
        "postgresql://u:p/w@hunter22@db/x",
        "password=hunter22",
        "PGPASSWORD='hunter22 with spaces' and more",
        'S3_SECRET_KEY: "hunter22"',
        "input_value={'password': 'hunter22'}",
        '{"api_key": "hunter22", "n": 1}',
        "fatal: could not read Password for 'https://hunter22@github.com': terminal prompts disabled",
        "https://hunter22:@github.com/org/repo.git",
        "https://hunter22:x-oauth-basic@github.com/org/repo.git",
        "https://somebody@example.org:hunter22@git.example.org/repo.git",
        "pkg @ git+https://hunter22@github.com/org/repo.git@0123abc",
        "uvicorn app:app --ssl-keyfile-password hunter22 --port 8000",
        "uvicorn app:app --ssl-keyfile-password 'hunter22 with blanks' --port 8000",
        "Command '['sync', '--api-key', 'hunter22']' returned 1",
        "sync --api-key=hunter22",
    ],
)
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(text):
    masked = _mask.mask(text)
    assert "hunter22" not in masked and "***" in masked


@pytest.mark.parametrize(
    "text",
    [
        "GET http://127.0.0.1:8000/health answered 500",
        "ModuleNotFoundError: No module named 'app.tokens'",
        "nobody@example.org wrote",
        "the key is here",
        "ssh://git@github.com/org/repo.git",
        "pkg @ git+ssh://git@github.com/org/repo.git@0123abc",
        "git@github.com:org/repo.git",
        "https://example.org?mail=somebody@example.org",
        "uvicorn --ssl-keyfile /etc/ssl/key --token-file /etc/token --password --port 8000",
    ],
)
def test_ordinary_text_stays(text):
    assert _mask.mask(text) == text


def test_the_user_stays_where_a_password_follows():
    assert _mask.mask("postgresql://sparklio:hunter22@db/x") == "postgresql://sparklio:***@db/x"
    assert _mask.mask("https://hunter22@github.com/org/repo.git") == "https://***@github.com/org/repo.git"


def test_the_secrets_of_an_environment_are_known():
    found = _mask.secret_values(
        {
            "DATABASE_URL": "postgresql://u:p%40ssword@db/x",
            "JWT_SECRET": "abcdefgh",
            "S3_ACCESS_KEY": "AKIA1234",
            "SSL_KEY_FILE": "/etc/ssl/key",
            "API_TOKEN": "abc",
            "HOME": "/home/sparklio",
        }
    )
    assert sorted(found) == ["AKIA1234", "abcdefgh", "p%40ssword", "p@ssword"]
    assert found == sorted(found, key=len, reverse=True)


@given(st.dictionaries(st.sampled_from(["DB_PASSWORD", "TOKEN", "SECRET_KEY"]), WORDS), st.text(), st.text())
def test_no_known_secret_survives(environment, before, after):
    secrets = _mask.secret_values(environment)
    for value in secrets:
        if value not in before + "***" + after and "*" not in value:
            assert value not in _mask.mask(f"{before} {value} {after}", secrets)
