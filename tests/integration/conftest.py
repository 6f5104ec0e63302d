"""A PostgreSQL of the tests' own: a cluster in a temporary directory that ends with the tests, however they end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import postgres

CONFIGURATION = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
shared_buffers = 32MB
max_connections = 60
fsync = off
wal_level = logical
max_replication_slots = 4
max_prepared_transactions = 5
autovacuum = off
log_min_messages = warning
"""
# Who comes by the socket may be the superuser; everybody else has to say a password.
HBA = """
local all postgres trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


def _server_programs() -> str:
    """The directory of the newest server programs here, installed first where that can be done, or skip."""
    found = _find_server()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get") and os.path.exists("/etc/debian_version"):
        _install()
        found = _find_server()
    if found is None:
        pytest.skip("PostgreSQL's server programs (initdb, postgres) are not installed, and only root on Debian can")
    return found


def _find_server() -> str | None:
    places = [place for place in postgres.Tools().places if os.access(os.path.join(place, "initdb"), os.X_OK)]
    return places[0] if places else None


def _install() -> None:
    before = _clusters()
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "postgresql"]):
        subprocess.run(["apt-get", *command], env=env, stdout=subprocess.DEVNULL, check=False, timeout=600)
    # The package starts a cluster of its own, which nobody asked for and which takes the usual port.
    for version, name in _clusters() - before:
        subprocess.run(["pg_ctlcluster", version, name, "stop"], check=False, capture_output=True, timeout=60)


def _clusters() -> set[tuple[str, str]]:
    root = Path("/etc/postgresql")
    return {(place.parent.name, place.name) for place in root.glob("*/*") if place.is_dir()}


class Cluster:
    """A throw-away server, and questions to it as its superuser.

    Attributes:
        port: where it listens on 127.0.0.1, with a password.
        sockets: the directory of its socket, where the superuser needs none.
        admin_command: what a module puts in front of psql to be the superuser.

    Args:
        programs: directory of the server's programs.
        settings: lines of postgresql.conf that come last, and so count.
    """

    def __init__(self, programs: str, settings: str = "") -> None:
        self.programs = programs
        # Short, since a socket's path has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.data, self.sockets = self.folder / "data", str(self.folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.prefix: list[str] = []
        if os.geteuid() == 0:
            # A server refuses to be root's.
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self.prefix = ["runuser", "-u", "postgres", "--"]
        self.folder.chmod(0o755)
        self.admin_command = [*self.prefix, "env", f"PGHOST={self.sockets}", f"PGPORT={self.port}", "PGUSER=postgres"]
        self.server: postgres.Child | None = None
        self._run(
            "initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"
        )
        self._write("postgresql.conf", CONFIGURATION.format(port=self.port, folder=self.folder) + settings)
        self._write("pg_hba.conf", HBA)

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [*self.prefix, f"{self.programs}/{program}", *arguments],
            **{"capture_output": True, "text": True, "cwd": "/", "timeout": 120, "stdin": subprocess.DEVNULL},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _write(self, name: str, text: str) -> None:
        # The superuser's file stays the superuser's: it is there already.
        with open(self.data / name, "w", encoding="utf-8") as stream:
            stream.write(text)

    def start(self) -> None:
        env = {**os.environ, "LC_ALL": "C.UTF-8"}
        self.server = postgres.Child([*self.prefix, f"{self.programs}/postgres", "-D", str(self.data)], env)
        for _try in range(600):
            if subprocess.run([*self._psql("postgres"), "-c", "SELECT 1"], capture_output=True, check=False).returncode:
                assert self.server.process.poll() is None, self.server._why(1)
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the server did not start")

    def stop(self, mode: str = "immediate") -> None:
        """End it: ``fast`` as it should be, ``immediate`` as a crash would."""
        self._run("pg_ctl", "stop", "-D", str(self.data), "-m", mode, "-w")
        self.server.stop()

    def destroy(self) -> None:
        try:
            if self.server and self.server.process.poll() is None:
                self.stop()
        finally:
            if self.server:
                self.server.stop()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _psql(self, database: str) -> list[str]:
        return [
            *(f"{self.programs}/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.sockets),
            *("-p", str(self.port), "-U", "postgres", "-d", database),
        ]

    def sql(self, text: str, database: str = "postgres", fails: bool = False) -> str:
        """Run statements one by one as the superuser. Returns what they answer, or with ``fails`` the complaint."""
        done = subprocess.run(
            self._psql(database), input=text, capture_output=True, text=True, timeout=120, check=False
        )
        assert bool(done.returncode) == fails, done.stderr
        return (done.stderr if fails else done.stdout).strip()

    def session(self, database: str = "postgres", user: str = "postgres", password: str | None = None):
        """A session that lasts, such as one that holds a lock: ``ask(sql)``, and ``close()`` or a ``with``."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        env |= {"PGHOST": self.sockets, "PGPORT": str(self.port), "PGUSER": user, "PGDATABASE": database}
        if password:
            env["PGPASSWORD"] = password
        return postgres.Session([f"{self.programs}/psql"], env)

    def url(self, database: str, user: str, password: str) -> str:
        """The address that an application has."""
        return (
            f"postgresql+psycopg://{quote(user, '')}:{quote(password, '')}@127.0.0.1:{self.port}/{quote(database, '')}"
        )

    def admin_url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{quote(database, '')}?host={quote(self.sockets, '')}&port={self.port}"


@pytest.fixture(scope="session")
def cluster():
    """A server of one's own with prepared transactions and logical decoding. What a test makes in it, it drops."""
    made = Cluster(_server_programs())
    try:
        made.start()
        yield made
    finally:
        made.destroy()
