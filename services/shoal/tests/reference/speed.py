"""Wall time of `shoal backtest` and of HiGHS on the same scenario, side by side.

    speed.py SHOAL SCENARIO.toml [POLICY]

SHOAL is the built program (release). Shoal's figure is the whole command, reading, solving and writing; `solving` is
its own figure for building and solving the problem. HiGHS's figure is building and solving, reading left out. Peak
memory is that of the command.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from check_scenario import Scenario, reference


def main() -> int:
    shoal, scenario = sys.argv[1], Path(sys.argv[2])
    policy = sys.argv[3] if len(sys.argv) > 3 else "v2g-perfect"
    with tempfile.TemporaryDirectory() as folder:
        command = [shoal, "backtest", str(scenario), "--policy", policy, "--json", "--out", folder]
        begun = time.monotonic()
        out = subprocess.run(command, check=True, capture_output=True).stdout
        ours = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    entry = json.loads(out)["policies"][0]
    read = Scenario(scenario)
    begun = time.monotonic()
    objective = reference(read, policy == "v2g-perfect")
    theirs = time.monotonic() - begun
    print(f"{scenario.stem}, {policy}, {len(read.sessions)} sessions")
    print(f"  shoal  {ours:8.2f} s whole command, {entry['solve_seconds']:.2f} s solving, {peak:.0f} MiB at most, objective {entry['objective']:.6f}")
    print(f"  HiGHS  {theirs:8.2f} s building and solving, objective {objective:.6f}")
    print(f"  ratio  {ours / theirs:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
