"""Runs the features of one peer, each in a world of its own, and compares them with the table.

docs/INTEROP.md says for each peer which features hold. Every cell is a run here, and a feature
that has no cell, or a cell that has no feature, is a failure too.
"""

import pathlib
import sys
import time
import traceback

import goplane
import scripted

PEERS = {"go-control-plane": goplane, "scripted": scripted}
TABLE = pathlib.Path(__file__).parents[3] / "docs" / "INTEROP.md"


def cells(peer):
    """The features of a peer's column in the table of control planes."""
    rows = [line.strip().strip("|").split("|") for line in TABLE.read_text().splitlines()]
    rows = [[cell.strip().strip("`") for cell in row] for row in rows if len(row) > 2]
    for index, row in enumerate(rows):
        if row[0] == "control plane" and peer in row:
            column = row.index(peer)
            body = iter(rows[index + 2 :])
            found = set()
            for cells in body:
                if len(cells) != len(row) or cells[0] == "control plane":
                    break
                if cells[column] == "yes":
                    found.add(cells[0])
            return found
    raise SystemExit(f"docs/INTEROP.md has no column for {peer}")


def main():
    peer = sys.argv[1]
    features = PEERS[peer].FEATURES
    failed = set(features) ^ cells(peer)
    for name in sorted(failed):
        print(f"interop: {peer}: {name}: the table and the features differ", flush=True)
    for name, feature in features.items():
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        began = time.monotonic()
        try:
            feature()
            print(f"interop: {peer}: {name}: ok, {time.monotonic() - began:.1f} s", flush=True)
        except Exception:
            failed.add(name)
            traceback.print_exc()
            print(f"interop: {peer}: {name}: FAILED", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
