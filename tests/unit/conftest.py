from __future__ import annotations

import os

from hypothesis import settings

# No test is timed, since machines are noisy. The examples are the same each time, so that a failure is one of the
# change; to search on: HYPOTHESIS_PROFILE=search bin/test unit
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
