"""Spreads agent runs over the inference slots, in turn."""

from itertools import count
from threading import Lock
from time import sleep

READY = {"slot-a": True, "slot-b": True, "slot-c": True, "slot-d": False}
ASK_AGAIN_EVERY = 4
ASK_SECONDS = 1.0

_lock = Lock()
_turn = count()
_asked = count(1)


def claim() -> str:
    """Return the slot whose turn it is. One that is not ready is asked again now and then, which takes a while."""
    with _lock:
        slot = list(READY)[next(_turn) % len(READY)]
        if READY[slot]:
            return slot
        patient = next(_asked) % ASK_AGAIN_EVERY == 0
    if patient:
        sleep(ASK_SECONDS)
        raise TimeoutError(f"{slot} did not answer")
    raise ConnectionError(f"{slot} is not ready")
