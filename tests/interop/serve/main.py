"""Runs every feature with every peer and prints a table; see features.py.

  main.py PEER...           all features of these peers
  main.py PEER --only NAME  one feature
"""

import argparse
import sys
import time
import traceback

import features
import table
from peers import PEERS
from world import World, fail, refusals, say

# The table that everybody reads is held to what is seen here.
HEADER = ["peer", *(features.NAMES[feature.__name__] for feature in features.FEATURES)]


def run(peer, feature):
    """What a cell says, and whether it is as it should be."""
    with World() as world:
        # A control plane of nothing first: peers start it with the files of the feature.
        peer.clients = []
        try:
            feature(world, None, peer)
            said = None
        except AssertionError as error:
            said = str(error) or "an assertion without words"
            if "-v" in sys.argv:
                traceback.print_exc()
        finally:
            for client in peer.clients:
                client.stop()
            (world.directory / "done").write_text(said or "")
        refused = refusals(world)
    cannot = peer.cannot.get(feature.__name__)
    if refused:
        return "refused", f"a response was refused: {refused[0]}"
    if said is None and cannot:
        return "better", f"it can, although the table says: {cannot}"
    if said is not None and not cannot:
        return "failed", said
    return ("yes", None) if said is None else ("no", None)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peers", nargs="*", default=list(PEERS))
    parser.add_argument("--only", action="append")
    parser.add_argument("-v", action="store_true")
    arguments = parser.parse_args()
    failures = 0
    for name in arguments.peers:
        peer = PEERS[name]()
        cells = {}
        for feature in features.FEATURES:
            if arguments.only and feature.__name__ not in arguments.only:
                continue
            began = time.monotonic()
            cell, why = run(peer, feature)
            cells[feature.__name__] = cell
            took = time.monotonic() - began
            say(f"{name} {feature.__name__}: {cell} ({took:.1f} s)")
            if why:
                failures += 1
                fail(f"{name} {feature.__name__}: {why}")
        say(f"{name} is {peer.version}")
        if not arguments.only:
            if why := table.fault(HEADER, [peer.version, *cells.values()]):
                failures += 1
                fail(why)
    sys.exit(1 if failures else 0)


main()
