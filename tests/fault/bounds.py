"""What the tests with faults allow, in one place; RNBD_FAULT_SCALE multiplies the times on slow machines.

The repetitions are those of the short run; scripts/soak sets RNBD_FAULT_* to have the full figures.
"""
import os


def _number(name, short):
    return type(short)(os.environ.get(f"RNBD_FAULT_{name}", short))


SCALE = _number("SCALE", 1.0)

# --- how often, how long -----------------------------------------------------------------------------
SERVER_KILLS = _number("SERVER_KILLS", 20)
CLIENT_KILLS = _number("CLIENT_KILLS", 20)
PATH_CUTS = _number("PATH_CUTS", 6)
FLAPS = _number("FLAPS", 20)
FLAP_INTERVAL_S = 0.1
BLACK_HOLES = _number("BLACK_HOLES", 2)
HELD_WRITES = _number("HELD_WRITES", 4)
FREEZES = _number("FREEZES", 3)
FREEZE_S = (0.1, _number("FREEZE_S_MAX", 3.0))
BACKEND_STALL_S = _number("BACKEND_STALL_S", 4.0)
STORAGE_ROUNDS = _number("STORAGE_ROUNDS", 3)
SHORT_STALL_S = 1.0
POWER_CUTS = _number("POWER_CUTS", 2)
SEED = _number("SEED", 1)

# --- longest pause an application may see --------------------------------------------------------------
# The other path lives. Between our own ends the goal is 0.2 after a cut and 1.5 after a black hole, plus the drain of
# the server; the values here have room for sanitizers and a busy machine, and for peers where the client has to CLOSE
# and wait 1 s instead. On a quiet machine: RNBD_FAULT_CUT_STALL_S=0.2.
CUT_STALL_S = _number("CUT_STALL_S", 3.0) * SCALE
BLACK_HOLE_STALL_S = _number("BLACK_HOLE_STALL_S", 4.0) * SCALE
# No path lives: the time to start the daemon anew, and to be connected again.
RESTART_STALL_S = 6.0 * SCALE
# Beyond the fault itself: heartbeats, reconnect with its longest pause, fence.
RECOVERY_STALL_S = 4.0 * SCALE
