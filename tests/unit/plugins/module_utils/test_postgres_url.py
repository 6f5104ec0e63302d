from __future__ import annotations

from urllib.parse import quote

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _postgres_url
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (
            "postgresql://sparklio_user:pw@127.0.0.1:5432/sparklio_v4",
            {"PGHOST": "127.0.0.1", "PGPORT": "5432", "PGUSER": "sparklio_user", "PGPASSWORD": "pw",
             "PGDATABASE": "sparklio_v4", "PGSSLMODE": "allow"},
        ),
        ("postgresql+psycopg://u:p%40s%2F@db.example/x?sslmode=require",
         {"PGHOST": "db.example", "PGUSER": "u", "PGPASSWORD": "p@s/", "PGDATABASE": "x", "PGSSLMODE": "require"}),
        ("postgresql+asyncpg://u:p@h/x?ssl=true&prepared_statement_cache_size=0",
         {"PGHOST": "h", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "x", "PGSSLMODE": "require"}),
        ("postgresql+asyncpg://u:p@h/x?ssl=verify-full", {"PGHOST": "h", "PGUSER": "u", "PGPASSWORD": "p",
                                                          "PGDATABASE": "x", "PGSSLMODE": "verify-full"}),
        ("postgres://u@/x?host=/var/run/postgresql&port=5433",
         {"PGHOST": "/var/run/postgresql", "PGPORT": "5433", "PGUSER": "u", "PGDATABASE": "x", "PGSSLMODE": "allow"}),
        ("postgresql+pg8000://u:p@/x?unix_sock=/tmp/.s.PGSQL.5432",
         {"PGHOST": "/tmp", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "x", "PGSSLMODE": "allow"}),
        ("postgresql://%2Fvar%2Frun/x", {"PGHOST": "/var/run", "PGDATABASE": "x", "PGSSLMODE": "allow"}),
        ("postgresql://u:p@[2001:db8::1]:6432/x",
         {"PGHOST": "2001:db8::1", "PGPORT": "6432", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "x"}),
        ("postgresql://u:p@/x?host=one:1&host=two:2&target_session_attrs=read-write",
         {"PGHOST": "one,two", "PGPORT": "1,2", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "x",
          "PGTARGETSESSIONATTRS": "read-write"}),
        ("postgresql://u:a:b/c?d@e@h:1/x",
         {"PGHOST": "h", "PGPORT": "1", "PGUSER": "u", "PGPASSWORD": "a:b/c?d@e", "PGDATABASE": "x"}),
        ("postgresql://u:p@one:1,two:2/x",
         {"PGHOST": "one,two", "PGPORT": "1,2", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "x"}),
        ("postgresql://[::1]:1,[::2]:2/x", {"PGHOST": "::1,::2", "PGPORT": "1,2", "PGDATABASE": "x"}),
        ("postgresql:///%EB%B8%8C%EB%9E%9C%EB%93%9C", {"PGDATABASE": "브랜드", "PGSSLMODE": "allow"}),
    ],
)  # fmt: skip
def test_the_programs_are_told_what_the_url_says(url, wanted):
    found = _postgres_url.parse(url).environment()
    for name in ("PGCONNECT_TIMEOUT", "PGAPPNAME"):
        found.pop(name)
    assert found == wanted


@pytest.mark.parametrize(
    "url",
    ["", "sqlite:///x.db", "mysql://u:secret@h/x", "postgresql://u:secret@h", "postgresql://u:secret@h:99999/x",
     "postgresql://u:secret@h:port/x", "host=h password=secret"],
)  # fmt: skip
def test_what_is_no_url_is_refused_without_showing_it(url):
    with pytest.raises(_postgres_url.UrlError) as caught:
        _postgres_url.parse(url)
    assert "secret" not in str(caught.value)


@given(
    user=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
    password=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
    database=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
)
def test_what_is_encoded_comes_back(user, password, database):
    url = f"postgresql+psycopg://{quote(user, '')}:{quote(password, '')}@h:1/{quote(database, '')}"
    target = _postgres_url.parse(url)
    assert (target.user, target.password, target.database) == (user, password, database)


def test_the_shown_address_has_no_credentials():
    target = _postgres_url.parse("postgresql://someone:secret@[::1]:5432/sparklio_v4?sslmode=require")
    assert target.shown == "postgresql://[::1]:5432/sparklio_v4"


def test_another_database_on_the_same_server():
    target = _postgres_url.parse("postgresql://u:p@h/sparklio_v4")
    assert target.environment("scratch")["PGDATABASE"] == "scratch"


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
WORDS = st.text("aZ0 ?/@:&=#%.'한-", max_size=6)


@st.composite
def addresses(draw):
    """Addresses that SQLAlchemy takes: with their parts encoded or, as far as it takes them, as they are."""
    user, password = draw(st.one_of(st.none(), NAMES)), draw(st.one_of(st.none(), NAMES, WORDS))
    raw = draw(st.booleans())
    who = ""
    if user is not None:
        said = password if raw else quote(password or "", "")
        who = quote(user, "") + ("" if password is None else f":{said}") + "@"
    host = draw(st.sampled_from(["", "h", "db.example:5432", "[::1]", "[2001:db8::1]:6432", "%2Fvar%2Frun"]))
    database = draw(st.one_of(st.none(), NAMES))
    query = draw(
        st.lists(
            st.sampled_from(
                ["sslmode=require", "host=/run/pg", "host=one:1", "host=two:2", "port=5433", "user=u2", "ssl=true",
                 "application_name=a%26b", "dbname=q", "db%6Eame=q2", "options=-c%20work_mem%3D5MB"]
            ),
            max_size=3,
        )
    )  # fmt: skip
    path = "" if database is None else "/" + quote(database, "")
    return f"{draw(st.sampled_from(['postgresql', 'postgres', 'postgresql+asyncpg']))}://{who}{host}{path}" + (
        "?" + "&".join(query) if query else ""
    )


@given(addresses(), NAMES)
def test_an_address_with_another_database_differs_in_nothing_else(url, database):
    try:
        before = _postgres_url.parse(url)
    except _postgres_url.UrlError:
        with pytest.raises(_postgres_url.UrlError):
            _postgres_url.with_database(url, database)
        return
    assert _postgres_url.parse(_postgres_url.with_database(url, database)) == before._replace(database=database)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql+psycopg://u:p@h:1/shop?sslmode=require", "postgresql+psycopg://u:p@h:1/new%2Fone?sslmode=require"),
        ("postgresql://u:p@/shop?host=/run/pg&dbname=other", "postgresql://u:p@/new%2Fone?host=/run/pg"),
        ("postgresql://u:a?b@h?dbname=shop", "postgresql://u:a?b@h/new%2Fone"),
        (" postgresql:///shop\n", "postgresql:///new%2Fone"),
    ],
)
def test_only_the_database_of_an_address_is_another(url, wanted):
    assert _postgres_url.with_database(url, "new/one") == wanted


@pytest.mark.parametrize("url", ["sqlite:///x.db", "postgresql://u:p@h"])
def test_what_is_no_address_gets_no_database(url):
    with pytest.raises(_postgres_url.UrlError):
        _postgres_url.with_database(url, "new")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("postgresql+asyncpg://u:p%40@h:1/s%68op?ssl=true", "postgresql+asyncpg://u:p%40@h:1/it%27s?ssl=true"),
        # Under which names a server goes nobody can tell from here.
        ("postgres://alias.example/shop", "postgres://alias.example/it%27s"),
        ("postgresql://u:p@a:1,b:2/shop", "postgresql://u:p@a:1,b:2/it%27s"),
        ("postgresql://u:p@/?host=one:1&host=two:2&dbname=shop", "postgresql://u:p@/it%27s?host=one:1&host=two:2"),
        ("host=h dbname=shop user=u", "host=h dbname='it\\'s' user=u"),
        ("dbname = 'sh\\op'", "dbname = 'it\\'s'"),
        ("postgresql://h/shopper", None),
        ("postgresql://shop:shop@h/other", None),
        ("host=h dbname=shopper xdbname=shop", None),
        ("redis://h/shop", None),
        ("shop", None),
    ],
)
def test_no_address_of_an_environment_leads_to_the_live_database_any_more(value, wanted):
    changed = {} if wanted is None else {"REPORT": wanted}
    assert _postgres_url.led({"REPORT": value, "X": "y"}, "shop", "it's") == {**changed, "PGDATABASE": "it's"}


@given(addresses(), NAMES)
def test_whatever_the_address_it_leads_elsewhere(url, database):
    try:
        live = _postgres_url.parse(url)
    except _postgres_url.UrlError:
        return
    found = _postgres_url.led({"REPORT": url}, live.database, database)
    assert _postgres_url.parse(found["REPORT"]) == live._replace(database=database)
