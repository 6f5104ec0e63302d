"""Lanes bound how many requests use the database at once; a request waits for the lane whose turn it is."""

import asyncio
from itertools import count

LANES = 11
# Seconds by which a lane yields to the refresh of the search index, which shares it.
REFRESH = {3: 0.3, 6: 0.55, 9: 0.8}

_turn = count()
_pauses = {lane: REFRESH.get(lane, 0.0) for lane in range(1, LANES)}


async def take() -> None:
    """FastAPI dependency: wait for a lane."""
    await asyncio.sleep(_pauses[next(_turn) % LANES])
