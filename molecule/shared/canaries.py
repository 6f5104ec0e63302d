"""Run on the app host: puts secrets where they must turn up nowhere else, and notes what to look for.

Every canary has "cnry-" in it: one in each environment file, the access key of the object store, the name of an object.
The passwords and the secret key are looked for as they are, since the services know no others.
"""

import json
import os
import re
import subprocess
import time
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

HOME = Path.home()
ROOT = HOME / "sparklio_ai_marketing_studio"
ACCESS_KEY = "sparklio:cnry-access-84c2"
OBJECT = "cnry-object-19ad/로고.svg"
SWIFT = "/etc/swift/proxy-server.conf"
PUT = """
import sys
from app.services import objects
objects.put(sys.argv[1], b"<svg/>", "image/svg+xml")
"""


def root(*argv, **options):
    return subprocess.run(["sudo", "-n", *argv], capture_output=True, text=True, check=True, **options).stdout


def rewrite(path, text):
    """Replace a file, with its time: the build that serves was made with it, as far as a build can tell."""
    before = path.stat().st_mtime if path.exists() else None
    path.write_bytes(text.encode())
    if before:
        os.utime(path, (before, before))
    path.chmod(0o600)


def user_of_the_object_store():
    """The same account and secret by another name: the sandbox's store is Swift, with its users in its settings."""
    settings = root("cat", SWIFT)
    first = re.search(r"(?m)^user_sparklio_app = .*$", settings)[0]
    second = first.replace("user_sparklio_app", f"user_{ACCESS_KEY.replace(':', '_')}")
    if second not in settings:
        root("tee", SWIFT, input=settings.replace(first, f"{first}\n{second}"))
    root("service", "swift-proxy", "restart")
    for _attempt in range(150):
        try:
            with urllib.request.urlopen("http://127.0.0.1:9000/healthcheck", timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("The object store does not come back.")


user_of_the_object_store()
path = ROOT / "backend/.env"
rewrite(path, re.sub("(?m)^S3_ACCESS_KEY=.*$", f"S3_ACCESS_KEY={ACCESS_KEY}", path.read_text(encoding="utf-8")))
# Here its name may be on a command line: nobody looks yet.
subprocess.run(["venv/bin/python", "-c", PUT, OBJECT], cwd=ROOT / "backend", check=True)

for number, name in enumerate((".env", "backend/.env", "frontend/.env.local"), 1):
    path = ROOT / name
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [line for line in text.splitlines() if "CANARY" not in line]
    lines += [f"CANARY_{number}_TOKEN=cnry-secret-{number}-7f31c9", "# CANARY: 한국어 주석 cnry-comment-5d20"]
    # Windows line ends in one of them, no line break at the end of another.
    text = "\r\n".join(lines) + "\r\n" if name == ".env" else "\n".join(lines) + ("" if number == 2 else "\n")
    rewrite(path, text)
    (HOME / f"canary-{number}.kept").write_bytes(text.encode())

variables = dict(line.split("=", 1) for line in (ROOT / "backend/.env").read_text().splitlines() if "=" in line)
wanted = {"cnry-", variables["S3_SECRET_KEY"]}
for name in ("DATABASE_URL", "REDIS_URL"):
    password = urlsplit(variables[name]).password
    wanted |= {password, unquote(password)}
note = HOME / "canaries.json"
note.touch(0o600)
note.write_text(json.dumps(sorted(wanted)), encoding="utf-8")
