"""Recomputes a back-test with HiGHS, from the contract's text alone.

    check_scenario.py SCENARIO.toml REPORT.json [--only POLICY]... [--quiet]

Reads the scenario and its CSV files itself, recomputes `unmanaged` on the grid and solves reference problem R for the
policies `v1g-perfect` and `v2g-perfect` that the report holds. Exit status 0 if all agree (unmanaged to 1e-6, the
others to 1e-4 relative on the objective), 1 if one does not. Prints one line per policy and the time HiGHS took,
model building included.

Knows nothing of the program that wrote the report. Needs highspy and numpy besides the standard library.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import fnmatch
import gzip
import json
import sys
import time
import tomllib
from bisect import bisect_right
from pathlib import Path
from zoneinfo import ZoneInfo

import highspy
import numpy as np

UTC = dt.timezone.utc
ZONES = {
    "DE": "Europe/Berlin", "NL": "Europe/Amsterdam", "FR": "Europe/Paris", "GB": "Europe/London",
    "DK1": "Europe/Copenhagen", "DK2": "Europe/Copenhagen", "FI": "Europe/Helsinki", "TH": "Asia/Bangkok",
    "US-CA": "America/Los_Angeles", "JP": "Asia/Tokyo",
}
SHORT = 2.0


def instant(text: str) -> dt.datetime:
    at = dt.datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"instant without offset: {text}")
    return at.astimezone(UTC)


def rows(file: Path) -> list[dict[str, str]]:
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", newline="") as handle:
        return list(csv.DictReader(line for line in handle if not line.startswith("#")))


def matches(row: dict[str, str], where: dict[str, str]) -> bool:
    return all(fnmatch.fnmatchcase(row[key], str(pattern)) for key, pattern in where.items())


class Scenario:
    def __init__(self, file: Path):
        self.toml = tomllib.loads(file.read_text())
        self.folder = file.parent
        zone = ZoneInfo(ZONES[self.toml["area"]])

        def midnight(key: str) -> dt.datetime:
            return dt.datetime.combine(self.toml[key], dt.time(), zone).astimezone(UTC)

        self.start, self.end = midnight("from"), midnight("to")
        self.step = dt.timedelta(minutes=self.toml.get("step_minutes", 15))
        self.steps = (self.end - self.start) // self.step
        self.D = self.step / dt.timedelta(hours=1)
        fleet = self.toml["fleet"]
        self.ec = fleet.get("charge_efficiency", 0.94)
        self.ed = fleet.get("discharge_efficiency", 0.94)
        costs = self.toml.get("costs", {})
        self.imp, self.exp = costs.get("import_per_mwh", 0.0), costs.get("export_per_mwh", 0.0)
        self.wear = costs.get("wear_per_mwh", 0.0)
        self.price = self.series(self.toml["prices"]["day_ahead"])
        self.sessions = self.read_sessions(fleet)
        self.sites = {s["id"]: self.site(s) for s in self.toml.get("site", [])}
        self.products = self.read_products()

    def series(self, spec: dict) -> np.ndarray:
        """Mean over each step of what is published, every value held until the next start."""
        table = [r for r in rows(self.folder / spec["file"]) if matches(r, spec.get("where", {}))]
        key = next(k for k in ("utc_start", "utc", "start") if k in table[0])
        points = sorted((instant(r[key]), float(r[spec["column"]])) for r in table if r[spec["column"]] != "")
        starts = [p[0] for p in points]
        values = np.empty(self.steps)
        for t in range(self.steps):
            begin, end = self.start + t * self.step, self.start + (t + 1) * self.step
            first = bisect_right(starts, begin) - 1
            total, at, i = 0.0, begin, first
            while at < end:
                until = min(end, starts[i + 1] if i + 1 < len(starts) else end)
                total += points[i][1] * ((until - at) / self.step)
                at, i = until, i + 1
            values[t] = total
        return values

    def site(self, spec: dict) -> tuple[float, float, np.ndarray]:
        base = self.series(spec["base_load"]) if "base_load" in spec else np.zeros(self.steps)
        return spec.get("import_limit_kw", np.inf), spec.get("export_limit_kw", np.inf), base

    def read_sessions(self, fleet: dict) -> list[dict]:
        table = rows(self.folder / fleet["sessions"])
        ids = sorted({r["vehicle_id"] for r in table})
        v2g = set(ids[: round(fleet.get("v2g_share", 1.0) * len(ids))])
        fraction = fleet.get("min_energy_fraction", 0.1)
        used = []
        for r in table:
            begin, end = instant(r["plug_in"]), instant(r["plug_out"])
            if r["energy_arrival_kwh"] == "" or begin < self.start or end > self.end:
                continue
            C, E0, Pc = float(r["capacity_kwh"]), float(r["energy_arrival_kwh"]), float(r["max_charge_kw"])
            first = (begin - self.start) // self.step
            last = -((self.start - end) // self.step)
            f = []
            for t in range(first, last):
                a = max(begin, self.start + t * self.step)
                b = min(end, self.start + (t + 1) * self.step)
                f.append((b - a) / self.step)
            F = min(fraction * C, E0)
            required = float(r["energy_required_kwh"])
            goal = max(F, min(required, C, E0 + self.ec * Pc * self.D * sum(f)))
            used.append(dict(
                site=r["site_id"], first=first, f=np.array(f), C=C, E0=E0, F=F, Pc=Pc, goal=goal, required=required,
                Pd=float(r["max_discharge_kw"]) if r["vehicle_id"] in v2g else 0.0,
            ))
        return used

    def read_products(self) -> list[dict]:
        """FCR and both aFRR directions, as far as enabled: blocks of whole steps with their price per MW and block."""
        markets, prices, found = self.toml.get("markets", {}), self.toml["prices"], []
        fcr, afrr = markets.get("fcr", {}), markets.get("afrr", {})
        self.window = fcr.get("headroom", "snapshot") == "window"
        self.recovery = fcr.get("recovery_steps", 2)
        for name, market, up, down, per, factor, minutes in (
            ("fcr", fcr, True, True, "block", fcr.get("power_factor", 1.0), fcr.get("endurance_minutes", 30)),
            ("afrr_up", afrr, True, False, "hour", 1.0, afrr.get("endurance_minutes", 60)),
            ("afrr_down", afrr, False, True, "hour", 1.0, afrr.get("endurance_minutes", 60)),
        ):
            if not market.get("enabled", False) or name not in prices:
                continue
            spec, blocks = prices[name], []
            for r in rows(self.folder / spec["file"]):
                begin, end = instant(r["utc_start"]), instant(r["utc_end"])
                if not matches(r, spec.get("where", {})) or begin < self.start or end > self.end:
                    continue
                hours = 1.0 if spec.get("per", per) == "block" else (end - begin) / dt.timedelta(hours=1)
                steps = range((begin - self.start) // self.step, (end - self.start) // self.step)
                blocks.append((steps, float(r[spec["column"]]) * hours))
            found.append(dict(name=name, up=up, down=down, factor=factor, h=minutes / 60, blocks=blocks))
        return found

    def unmanaged(self) -> float:
        total = 0.0
        for s in self.sessions:
            wanted, e = min(s["required"], s["C"]), s["E0"]
            for j, f in enumerate(s["f"]):
                c = min(f * s["Pc"], max(0.0, wanted - e) / (self.ec * self.D))
                e += self.ec * c * self.D
                total += self.D / 1000 * (self.price[s["first"] + j] + self.imp) * c
        return total


class Model:
    """Columns with costs and bounds, rows as triplets."""

    def __init__(self):
        self.cost, self.low, self.high = [], [], []
        self.row_low, self.row_high = [], []
        self.i, self.j, self.v = [], [], []

    def column(self, cost=0.0, low=0.0, high=np.inf) -> int:
        self.cost.append(cost)
        self.low.append(low)
        self.high.append(high)
        return len(self.cost) - 1

    def row(self, low, high, terms) -> None:
        r = len(self.row_low)
        self.row_low.append(low)
        self.row_high.append(high)
        for j, v in terms:
            self.i.append(r)
            self.j.append(j)
            self.v.append(v)

    def solve(self, method: str) -> float:
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.cost), len(self.row_low)
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = map(np.array, (self.cost, self.low, self.high))
        lp.row_lower_, lp.row_upper_ = np.array(self.row_low, float), np.array(self.row_high, float)
        i, j, v = np.array(self.i, np.int32), np.array(self.j, np.int32), np.array(self.v, float)
        order = np.lexsort((j, i))
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.concatenate(([0], np.cumsum(np.bincount(i, minlength=lp.num_row_)))).astype(np.int32)
        lp.a_matrix_.index_, lp.a_matrix_.value_ = j[order], v[order]
        solver = highspy.Highs()
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("solver", method)
        solver.passModel(lp)
        solver.run()
        status = solver.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise SystemExit(f"HiGHS: {solver.modelStatusToString(status)}")
        return solver.getInfo().objective_function_value


def reference(sc: Scenario, discharge: bool) -> float:
    m, D, ec, ed = Model(), sc.D, sc.ec, sc.ed
    volumes = [[m.column(cost=-price) for _, price in p["blocks"]] for p in sc.products]
    block_of = [{t: b for b, (steps, _) in enumerate(p["blocks"]) for t in steps} for p in sc.products]
    pool: dict[tuple, list] = {}
    site: dict[tuple, dict] = {}
    for s in sc.sessions:
        session(sc, m, s, s["Pd"] if discharge else 0.0, block_of, pool, site)
    for p, product in enumerate(sc.products):
        for b, (steps, _) in enumerate(product["blocks"]):
            for t in steps:
                for way in ("up", "down"):
                    if product[way]:
                        held = pool.get((p, t, way), [])
                        m.row(0.0, np.inf, [(r, 1.0) for r in held] + [(volumes[p][b], -1000.0)])
    for (name, t), terms in site.items():
        most, least, base = sc.sites[name]
        if np.isfinite(most):
            m.row(-np.inf, most - base[t], terms["net"] + terms["down"])
        if np.isfinite(least):
            m.row(-least - base[t], np.inf, terms["net"] + [(j, -1.0) for j, _ in terms["up"]])
    return m.solve("ipm" if sc.products else "simplex")


def session(sc, m, s, Pd, block_of, pool, site) -> None:
    D, ec, ed, f, Pc, F, C = sc.D, sc.ec, sc.ed, s["f"], s["Pc"], s["F"], s["C"]
    n = len(f)
    if n == 0:
        return
    e = [m.column(low=s["E0"], high=s["E0"])] + [m.column(low=F, high=C) for _ in range(n)]
    c, d, held = [], [], []
    for j in range(n):
        t = s["first"] + j
        price = sc.price[t]
        c.append(m.column(D / 1000 * (price + sc.imp), 0.0, f[j] * Pc))
        d.append(m.column(D / 1000 * (sc.wear - price + sc.exp), 0.0, f[j] * Pd))
        m.row(0.0, 0.0, [(e[j + 1], 1.0), (e[j], -1.0), (c[j], -D * ec), (d[j], D / ed)])
        if Pd > 0 and Pc > 0:
            m.row(-np.inf, f[j], [(c[j], 1 / Pc), (d[j], 1 / Pd)])
        net = [(c[j], 1.0), (d[j], -1.0)]
        at = site.setdefault((s["site"], t), dict(net=[], up=[], down=[])) if s["site"] in sc.sites else None
        if at is not None:
            at["net"] += net
        held.append(hold(sc, m, s, t, f[j], c[j], net, Pd, block_of, pool, at))
    xi = m.column(SHORT)
    m.row(s["goal"], np.inf, [(e[n], 1.0), (xi, 1.0)])
    if any(held):
        (window if sc.window else snapshot)(sc, m, n, e, F, C, held)


def hold(sc, m, s, t, f, c, net, Pd, block_of, pool, at) -> dict:
    """Reserve one vehicle may hold in one step: {product: (ruc, rud, rd)}; only when plugged in throughout."""
    own = {}
    if f < 1.0:
        return own
    ups, downs, cancelled = [], [], []
    for p, product in enumerate(sc.products):
        if t not in block_of[p]:
            continue
        ruc = rud = rd = None
        if product["up"]:
            ruc, rud = m.column(), m.column()
            cancelled.append((ruc, 1.0))
            ups += [(ruc, product["factor"]), (rud, product["factor"])]
            pool.setdefault((p, t, "up"), []).extend((ruc, rud))
            if at is not None:
                at["up"] += [(ruc, 1.0), (rud, 1.0)]
        if product["down"]:
            rd = m.column()
            downs.append((rd, product["factor"]))
            pool.setdefault((p, t, "down"), []).append(rd)
            if at is not None:
                at["down"].append((rd, 1.0))
        own[p] = (ruc, rud, rd)
    if ups:
        m.row(-np.inf, 0.0, cancelled + [(c, -1.0)])
        m.row(-Pd, np.inf, net + [(j, -v) for j, v in ups])
    if downs:
        m.row(-np.inf, s["Pc"], net + downs)
    return own


def drain(sc, held, weight) -> list:
    terms = []
    for ruc, rud, _ in held:
        if ruc is not None:
            terms += [(ruc, -weight * sc.ec), (rud, -weight / sc.ed)]
    return terms


def fill(sc, held, weight) -> list:
    return [(rd, weight / sc.ed) for _, _, rd in held if rd is not None]


def snapshot(sc, m, n, e, F, C, held) -> None:
    for j in range(n):
        up = [x for p, h in held[j].items() for x in drain(sc, [h], sc.products[p]["h"])]
        down = [x for p, h in held[j].items() for x in fill(sc, [h], sc.products[p]["h"])]
        for k in (j, j + 1):
            if up:
                m.row(F, np.inf, [(e[k], 1.0)] + up)
            if down:
                m.row(-np.inf, C, [(e[k], 1.0)] + down)


def window(sc, m, n, e, F, C, held) -> None:
    lengths = [int(np.ceil(p["h"] / sc.D - 1e-9)) for p in sc.products]
    longest = max(lengths)
    for i in range(1, n + 1):
        for t in range(max(1, i - longest + 1), min(n, i + sc.recovery) + 1):
            up, down = [], []
            for p, steps in enumerate(lengths):
                for j in range(max(0, i - steps), min(i, t)):
                    if p in held[j]:
                        up += drain(sc, [held[j][p]], sc.D)
                        down += fill(sc, [held[j][p]], sc.D)
            if up:
                m.row(F, np.inf, [(e[t], 1.0)] + up)
            if down:
                m.row(-np.inf, C, [(e[t], 1.0)] + down)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenario", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--only", action="append")
    args = parser.parse_args()
    begun = time.monotonic()
    scenario = Scenario(args.scenario)
    read = time.monotonic() - begun
    report = json.loads(args.report.read_text())
    wrong = 0
    if report["sessions"] != len(scenario.sessions):
        print(f"sessions: report {report['sessions']}, here {len(scenario.sessions)}")
        wrong += 1
    for policy in report["policies"]:
        name = policy["name"]
        if name not in ("unmanaged", "v1g-perfect", "v2g-perfect") or args.only and name not in args.only:
            continue
        begun = time.monotonic()
        mine = scenario.unmanaged() if name == "unmanaged" else reference(scenario, name == "v2g-perfect")
        took = time.monotonic() - begun
        theirs = policy["net_cost"] - policy["demand_cost"]
        tolerance = 1e-6
        if name != "unmanaged":
            theirs += SHORT * policy["energy_short_kwh"]
            tolerance = 1e-4
        off = abs(theirs - mine) / max(abs(mine), 1e-9)
        verdict = "agrees" if off <= tolerance else "DIFFERS"
        wrong += off > tolerance
        print(f"{name}: report {theirs:.6f}, here {mine:.6f}, off by {off:.2e} of {tolerance:.0e}: {verdict}"
              f" ({took:.2f} s, reading {read:.2f} s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
