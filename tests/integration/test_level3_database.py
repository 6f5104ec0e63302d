from __future__ import annotations


def test_smoke(cluster):
    assert cluster.sql("SELECT 1") == "1"
    with cluster.session() as session:
        assert session.ask("SHOW wal_level") == "logical"
    cluster.stop()
    cluster.start()
    assert cluster.sql("SHOW max_prepared_transactions") == "5"
