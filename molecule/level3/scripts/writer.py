"""Run on the app host in the background: writes through the application's API, and notes what it was told is there.

Usage: python3 level3-writer.py SECONDS
Ends when level3-writing is removed. Each line of level3-acknowledged is a marker that a row bears which was answered
with 2xx, so it was committed. What was not answered is not noted: nobody was told that it is there.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from itertools import count
from pathlib import Path

HOME = Path.home()
SIGN, ACKNOWLEDGED, COUNTED = HOME / "level3-writing", HOME / "level3-acknowledged", HOME / "level3-written"
BEGUN = f"{time.time():.0f}"


def post(path: str, body: dict) -> bool:
    request = urllib.request.Request(
        f"http://127.0.0.1:8000/api/v1/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return 200 <= answer.status < 300 and bool(answer.read())
    except (OSError, http.client.HTTPException):
        return False


answers = {"written": 0, "refused": 0}
deadline = time.monotonic() + float(sys.argv[1])
for number in count():
    if not SIGN.exists() or time.monotonic() > deadline:
        break
    marker = f"ack-{BEGUN}-{number}"
    wanted = (
        ("users", {"email": f"{marker}@example.com", "name": marker}),
        # Only the newest releases have them; the others answer 404.
        ("brands/1/learnings", {"lesson": marker}),
    )[number % 2]
    if post(*wanted):
        answers["written"] += 1
        with ACKNOWLEDGED.open("a", encoding="utf-8") as stream:
            stream.write(f"{marker}\n")
    else:
        answers["refused"] += 1
        time.sleep(0.1)
    COUNTED.write_text(json.dumps(answers), encoding="utf-8")
    time.sleep(0.1)
