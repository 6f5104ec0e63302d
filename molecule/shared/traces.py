"""Run on the app host after the cases: prints where a canary turned up, and what of the state others could read."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

HOME = Path.home()
STATES = sorted(HOME.glob("*.rollback"))
WANTED = [value.encode() for value in json.loads((HOME / "canaries.json").read_text(encoding="utf-8"))]
#: Copies of what holds secrets, and the names of the objects: what restore points and runs are there for.
COPIES = re.compile(r"/\.env[^/]*$|/objects/objects\.jsonl$|/database/dump/|/redis/dump\.rdb$|/node_modules/|/\.next/")
#: Kept as it was, with its own modes, and moved back as a whole.
AS_IT_WAS = re.compile(r"/runs/[^/]+/(?:displaced|stage)/|/cache/")


def has_one(body):
    return any(value in body for value in WANTED)


found, files, records = [], 0, 0
for state in STATES:
    for folder, folders, names in os.walk(state):
        folders[:] = [name for name in folders if name not in ("node_modules", "site-packages")]
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            ours = not AS_IT_WAS.search(path + "/")
            if ours and not stat.S_ISLNK(mode) and mode & 0o077:
                found.append(f"{path} has the mode {stat.S_IMODE(mode):o}")
            if stat.S_ISREG(mode) and not COPIES.search(path):
                files += 1
                if has_one(Path(path).read_bytes()):
                    found.append(f"{path} has a canary in it")
# Ansible tells the system's journal what each module was given, and sudo which commands it ran.
if shutil.which("journalctl"):
    shown = subprocess.run(["sudo", "-n", "journalctl", "--output=json"], capture_output=True, check=True).stdout
    for line in shown.splitlines():
        record = json.loads(line)
        who = str(record.get("SYSLOG_IDENTIFIER"))
        if who.startswith(("ansible", "sudo", "python")):
            records += 1
            if has_one(str(record.get("MESSAGE")).encode()):
                found.append(f"the system's journal has a canary in it, from {who}")
print(f"{files} files and {records} lines of the system's journal were read")
print("\n".join(sorted(set(found))))
sys.exit(bool(found))
