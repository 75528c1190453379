"""Solves the scenario of `cargo xtask bench scale` with HiGHS: the contract's rows, interior point without crossover, one
thread. Prints one line of JSON; building the model is told apart from solving it.

    highs_scale.py SCENARIO.toml
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import highspy

sys.path.insert(0, str(Path(__file__).parents[1] / "services/shoal/tests/reference"))
from check_scenario import Scenario, reference  # noqa: E402


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Timed(highspy.Highs):
    """HiGHS with the bench's options, and what its own run took."""

    wall = used = 0.0

    def run(self):
        self.setOptionValue("run_crossover", "off")
        self.setOptionValue("threads", 1)
        begun, before = time.monotonic(), cpu()
        status = super().run()
        Timed.wall, Timed.used = time.monotonic() - begun, cpu() - before
        return status


def main() -> None:
    scenario = Scenario(Path(sys.argv[1]))
    highspy.Highs = Timed
    begun, before = time.monotonic(), cpu()
    objective = reference(scenario, True)
    print(json.dumps({
        "sessions": len(scenario.sessions),
        "wall_seconds": round(time.monotonic() - begun, 2), "cpu_seconds": round(cpu() - before, 2),
        "solving_wall_seconds": round(Timed.wall, 2), "solving_cpu_seconds": round(Timed.used, 2),
        "objective": objective,
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }))


if __name__ == "__main__":
    main()
