from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _postgres, _transfer
from ansible_collections.sparklio.rollback.plugins.module_utils._postgres import Client
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n", (15, 20)),
        ("pg_dump (PostgreSQL) 17devel", (17, 0)),
        ("pg_dump (PostgreSQL) 18rc1", (18, 0)),
        ("sh: pg_dump: not found", None),
    ],
)
def test_the_version_is_read(text, version):
    assert _postgres.version_of(text) == version


def test_the_client_of_the_server_is_taken_and_never_an_older_one():
    old, same, newer, newest = (Client(f"/{major}", (major, 1)) for major in (14, 15, 16, 18))
    assert _postgres.choose([newest, old, same, newer], 15) == same
    assert _postgres.choose([newest, old, newer], 15) == newer
    assert _postgres.choose([old], 15) is None
    assert _postgres.choose([], 15) is None


def test_compression_is_what_the_client_can_do():
    assert _postgres.compression((15, 20), lambda method: True) == "1"
    assert _postgres.compression((16, 0), lambda method: True) == "zstd:1"
    assert _postgres.compression((16, 0), lambda method: method == "lz4") == "lz4"
    assert _postgres.compression((17, 2), lambda method: False) == "gzip:1"


def test_lines_of_pg_dump():
    assert _postgres.finished("pg_dump: finished item 3642 TABLE DATA users") == "users"
    assert _postgres.finished("pg_dump: finished item 3642 TABLE DATA 생성 표") == "생성 표"
    assert _postgres.finished("pg_dump: launching item 3642 TABLE DATA users") is None


@given(st.integers(0, 10**12), st.floats(0, 1e12), st.floats(0.01, 1), st.floats(0, 1e12))
def test_the_estimate_is_never_less_than_what_is_there(written, done, usual, total):
    assert _postgres.estimate(written, done, usual, total) >= written


def test_the_estimate_follows_what_is_done():
    assert _postgres.estimate(0, 0, 0.2, 1000) == 200
    assert _postgres.estimate(300, 1000, 0.2, 1000) == 300
    assert _postgres.estimate(50, 500, 0.2, 1000) == 150


SETTINGS = {
    "owner": "sparklio_user", "encoding": "UTF8", "collate": "C.UTF-8", "ctype": "C.UTF-8", "provider": "c",
    "locale": None, "connection_limit": -1, "comment": None, "default_acl": True, "acl": [], "settings": [],
}  # fmt: skip


def test_a_plain_database_has_only_an_owner():
    assert _postgres.settings_sql("sparklio_v4", SETTINGS) == 'ALTER DATABASE "sparklio_v4" OWNER TO "sparklio_user";\n'


def test_the_settings_of_some_roles_alone():
    settings = [{"role": role, "setting": "search_path=app"} for role in (None, "sparklio_user", "reporting")]
    assert _postgres.parameter_statements("s", {**SETTINGS, "settings": settings}, (None, "sparklio_user")) == [
        'ALTER DATABASE "s" SET "search_path" TO \'app\'',
        'ALTER ROLE "sparklio_user" IN DATABASE "s" SET "search_path" TO \'app\'',
    ]


def test_everything_that_belongs_to_the_database_itself():
    sql = _postgres.settings_sql(
        "a db",
        {
            **SETTINGS,
            "connection_limit": 40,
            "comment": "it's ours",
            "default_acl": False,
            "acl": [
                {"grantee": None, "privilege": "CONNECT", "grantable": False},
                {"grantee": "reporting", "privilege": "TEMPORARY", "grantable": True},
            ],
            "settings": [
                {"role": None, "setting": 'search_path=public, "$user", "odd,""one"'},
                {"role": "reporting", "setting": "statement_timeout=5min"},
                {"role": None, "setting": "app.tenant=a=b"},
            ],
        },
    ).splitlines()
    assert sql[1:] == [
        'ALTER DATABASE "a db" CONNECTION LIMIT 40;',
        "COMMENT ON DATABASE \"a db\" IS 'it''s ours';",
        "ALTER DATABASE \"a db\" SET \"search_path\" TO 'public', '$user', 'odd,\"one';",
        'ALTER ROLE "reporting" IN DATABASE "a db" SET "statement_timeout" TO \'5min\';',
        'ALTER DATABASE "a db" SET "app"."tenant" TO \'a=b\';',
        'REVOKE ALL ON DATABASE "a db" FROM PUBLIC;',
        'REVOKE ALL ON DATABASE "a db" FROM "sparklio_user";',
        'GRANT CONNECT ON DATABASE "a db" TO PUBLIC;',
        'GRANT TEMPORARY ON DATABASE "a db" TO "reporting" WITH GRANT OPTION;',
    ]


def test_a_scratch_database_sorts_as_the_kept_one():
    assert _postgres.create_scratch("s", "o", SETTINGS) == (
        "CREATE DATABASE \"s\" OWNER \"o\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
    )
    icu = _postgres.create_scratch("s", "o", {**SETTINGS, "provider": "i", "locale": "ko-KR"})
    assert icu.endswith("LOCALE_PROVIDER icu ICU_LOCALE 'ko-KR'")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_scratch_name_fits(database):
    prefix = _postgres.scratch_prefix(database)
    assert len(prefix.encode()) + 8 <= 63
    assert prefix.endswith("_verify_")


def test_what_is_there_is_left_out_of_the_list():
    toc = [
        ";\n",
        "6; 2615 16386 SCHEMA - ext sparklio_user\n",
        "7; 2615 16387 SCHEMA - archive sparklio_user\n",
        "2; 3079 16385 EXTENSION - vector \n",
        "3666; 0 0 COMMENT - EXTENSION vector \n",
        "215; 1259 16400 TABLE public vector sparklio_user\n",
        "3; 3079 16389 EXTENSION - pg_trgm \n",
    ]
    assert _postgres.without(toc, ["vector"], ["ext"]) == [toc[0], toc[2], toc[5], toc[6]]


def test_an_event_trigger_is_left_out_where_no_superuser_restores():
    toc = [
        "3400; 3466 16400 EVENT TRIGGER - noted postgres\n",
        "3401; 0 0 COMMENT - EVENT TRIGGER noted postgres\n",
        "210; 1255 16399 FUNCTION public EVENT TRIGGER - () shop\n",
        "3402; 2620 16402 TRIGGER public users touched shop\n",
    ]
    assert _postgres.without(toc, [], [], superuser=False) == toc[2:]
    assert _postgres.without(toc, [], [], superuser=True) == toc


def test_progress_in_one_line():
    assert _transfer.line("database", 45_000_000, 160_000_000, 6.0) == (
        "database: 45.0 MB of about 160.0 MB, about 0:15 left / 남음"
    )
    assert _transfer.line("database", 0, 160_000_000, 3.0) == "database: 0 bytes of about 160.0 MB, 0:03 so far"
    assert "of about 200.0 MB, about 0:00 left" in _transfer.line("database", 200_000_000, 160_000_000, 6.0)


UNKNOWN = [
    "pg_restore: while INITIALIZING:",
    'pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"',
    "Command was: SET transaction_timeout = 0;",
]
FAILED = ["pg_restore: error: could not execute query: ERROR:  no", "Command was: CREATE TABLE public.users (id int);"]


@pytest.mark.parametrize(
    ("lines", "only"),
    [
        ([*UNKNOWN, "pg_restore: warning: errors ignored on restore: 1"], True),
        ([*UNKNOWN, *UNKNOWN, "pg_restore: warning: errors ignored on restore: 1"], True),
        # It was killed before its end, or something else failed as well, or did without a command.
        (UNKNOWN, False),
        ([*UNKNOWN, *FAILED, "pg_restore: warning: errors ignored on restore: 2"], False),
        ([*UNKNOWN, "pg_restore: error: COPY failed", "pg_restore: warning: errors ignored on restore: 2"], False),
        ([*UNKNOWN[:2], "Command was: SET a = 'x'; DROP TABLE b;", "x: errors ignored on restore: 1"], False),
        (["pg_restore: error: connection to server failed"], False),
        ([], False),
    ],
)
def test_settings_of_a_newer_client_are_all_that_may_fail(lines, only):
    assert _postgres.only_unknown_settings(lines) is only


def test_the_owners_in_a_dump_are_read_from_its_schema():
    lines = [
        'ALTER TABLE public."my table" OWNER TO app_user;\n',
        'ALTER FUNCTION public.f(text) OWNER TO "남의 ""role""";\n',
        "ALTER TABLE public.users ALTER COLUMN id SET DEFAULT 1;\n",
        "COMMENT ON TABLE users IS 'ALTER TABLE x OWNER TO nobody;';\n",
    ]
    assert _postgres.owners(lines) == {"app_user", '남의 "role"'}
