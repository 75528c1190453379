"""Solves a stacked portfolio problem with HiGHS, from the mathematics alone.

    highs.py [--whole] [--sides N] [--inside] [--method ipm|simplex]   < lines of JSON, one problem each   > one line of JSON each

A problem is vehicles, sites, areas, products, orders, dimmings and prices as numbers (kW, kWh, currency per MWh; capacity per MW and
block). Every limit, departure and award may give way at its price. With --whole, volumes are nothing or at least the
minimum, in whole steps, one product of an exclusive group at a time. Circles of apparent power become polygons of N sides about them, with
--inside those within them, so that the optimum lies between both answers. Answers {"objective": ..., "seconds": ...}.

Knows nothing of the program it checks. Needs highspy and numpy besides the standard library.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time

import highspy
import numpy as np

INF = highspy.kHighsInf


class Model:
    def __init__(self):
        self.cost, self.low, self.high, self.integer = [], [], [], []
        self.row_low, self.row_high = [], []
        self.rows, self.columns, self.values = [], [], []
        self.constant = 0.0
        self.volumes = []                              # sold, by product and block

    def var(self, cost=0.0, low=0.0, high=INF, integer=False):
        self.cost.append(cost)
        self.low.append(low)
        self.high.append(high)
        self.integer.append(integer)
        return len(self.cost) - 1

    def row(self, terms, low=-INF, high=INF):
        number = len(self.row_low)
        self.row_low.append(low)
        self.row_high.append(high)
        total = {}
        for column, value in terms:
            total[column] = total.get(column, 0.0) + value
        for column, value in total.items():
            self.rows.append(number)
            self.columns.append(column)
            self.values.append(value)

    def solve(self, method):
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.cost), len(self.row_low)
        lp.offset_ = self.constant
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = (np.array(x, float) for x in (self.cost, self.low, self.high))
        lp.row_lower_, lp.row_upper_ = np.array(self.row_low, float), np.array(self.row_high, float)
        i = np.array(self.rows, np.int32)
        order = np.argsort(i, kind="stable")
        counts = np.bincount(i, minlength=lp.num_row_) if lp.num_row_ else np.zeros(0, int)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        lp.a_matrix_.index_ = np.array(self.columns, np.int32)[order]
        lp.a_matrix_.value_ = np.array(self.values, float)[order]
        if any(self.integer):
            kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
            lp.integrality_ = [kinds[flag] for flag in self.integer]
        solver = highspy.Highs()
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("mip_rel_gap", 1e-7)
        if not any(self.integer):
            solver.setOptionValue("solver", method)
        solver.passModel(lp)
        solver.run()
        status = solver.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise SystemExit(f"HiGHS: {solver.modelStatusToString(status)}")
        return solver.getInfo().objective_function_value


def build(p, whole, circle):
    m = Model()
    D, T = p["step_hours"], len(p["import_price"])
    carbon = p["carbon_price"] or [0.0] * T
    elastic = p["elastic"]
    products, sites, areas = p["products"], p["sites"], p["areas"]
    block_at = [{t: b for b, block in enumerate(k["blocks"]) for t in range(block["steps"]["start"], block["steps"]["end"])}
                for k in products]
    net = [[[] for _ in range(T)] for _ in sites]      # terms of the vehicles behind each site
    up = [[[] for _ in range(T)] for _ in sites]
    down = [[[] for _ in range(T)] for _ in sites]
    pool = [[] for _ in range(T)]                      # terms of all vehicles
    held = {}                                          # (product, way, t) -> [(column, vehicle)]
    stays = []                                         # what each vehicle does, for what may be dimmed
    shifted = [[[] for _ in range(T)] for _ in sites]  # reactive power behind each site
    flows = [[([], [], []) for _ in range(T)] for _ in sites]  # charged, discharged and driven away from each site

    for number, vehicle in enumerate(p["vehicles"]):
        s, keep = vehicle["session"], vehicle["keep_kwh"]
        f, n, first = s["share"], len(s["share"]), s["first"]
        ec, ed, Pc, Pd = s["charge_efficiency"], s["discharge_efficiency"], s["charge_kw"], s["discharge_kw"]
        F, C, E0 = s["floor"], s["capacity"], s["arrival"]
        e = [m.var(low=E0, high=E0)] + [m.var(low=F, high=C) for _ in range(n)]
        short = m.var(elastic["energy_per_kwh"])
        m.row([(e[n], 1), (short, 1)], low=s["goal"])
        level = [F] * (n + 1)
        miss = None
        if keep > F:
            miss = m.var(elastic["energy_per_kwh"], high=keep - F)
            reach = E0
            for j in range(n + 1):
                if j:
                    reach += D * ec * Pc * f[j - 1]
                level[j] = max(F, min(keep, C, reach))
                if j:
                    m.row([(e[j], 1), (miss, 1)], low=level[j])
        own, loads = [], []
        for j in range(n):
            t = first + j
            c = m.var(D / 1000 * (p["import_price"][t] + carbon[t]), high=f[j] * Pc)
            d = m.var(D / 1000 * (p["wear"] - p["export_price"][t] - carbon[t]), high=f[j] * Pd)
            m.row([(e[j + 1], 1), (e[j], -1), (c, -D * ec), (d, D / ed)], 0, 0)
            if j < len(vehicle["fixed_kw"]):
                m.row([(c, 1)], *[vehicle["fixed_kw"][j][0]] * 2)
                m.row([(d, 1)], *[vehicle["fixed_kw"][j][1]] * 2)
            if Pc > 0 and Pd > 0:
                m.row([(c, 1 / Pc), (d, 1 / Pd)], high=f[j])
            load = [(c, 1), (d, -1)]
            loads.append(load)
            pool[t] += load
            if s["site"] is not None:
                net[s["site"]][t] += load
            parts, ups, downs, cancels = {}, [], [], []
            for k, product in enumerate(products):
                if f[j] < 1 or t not in block_at[k]:
                    continue
                block = product["blocks"][block_at[k][t]]
                if not block["open"] and block["awarded_mw"] <= 0:
                    continue
                rc = rd = ru = dn = None
                if product["up"]:
                    ru = m.var()
                    share = product["up"]["delivered"]
                    if share > 0:
                        rc, rd = m.var(), m.var()
                        m.row([(rc, 1), (rd, 1), (ru, -share)], 0, 0)
                        cancels.append((rc, 1))
                    ups.append((ru, 1))
                    held.setdefault((k, "up", t), []).append((ru, number))
                if product["down"]:
                    dn = m.var()
                    downs.append((dn, 1))
                    held.setdefault((k, "down", t), []).append((dn, number))
                parts[k] = (rc, rd, dn)
            if cancels:
                m.row(cancels + [(c, -1)], high=0)
            if ups:
                m.row([(x, -1) for x, _ in ups] + load, low=-Pd)
            if downs:
                m.row(downs + load, high=Pc)
            if s["site"] is not None:
                up[s["site"]][t] += ups
                down[s["site"]][t] += downs
                if Pd > 0:
                    flows[s["site"]][t][0].append((c, D))
                    flows[s["site"]][t][1].append((d, D))
                if vehicle["rating_kva"] is not None and sites[s["site"]]["reactive"]:
                    q = m.var(low=-INF)
                    shifted[s["site"]][t].append((q, 1))
                    for reserve in (downs, [(x, -1) for x, _ in ups]):
                        circle(m, load + reserve, 0.0, [(q, 1)], 0.0, f[j] * vehicle["rating_kva"])
            own.append(parts)
        if s["site"] is not None and n and Pd > 0:
            driven = m.var()
            m.row([(driven, ec), (e[n], -1), (e[0], 1)], low=0)
            flows[s["site"]][first + n - 1][2].append((driven, 1))
        activation(m, p, s, e, own, level, miss)
        downs = [[(k, parts[k][2]) for k in parts if parts[k][2] is not None] for parts in own]
        stays.append((s, e, loads, downs))

    rooms = limits(m, p, net, up, down)
    sell(m, p, held, whole, dimmed(m, p, stays, rooms))
    position(m, p, pool)
    for number, site in enumerate(sites):
        if site["reactive"]:
            reactive(m, p, site, (net[number], up[number], down[number], shifted[number]), circle)
        if site["refund"]:
            refund(m, site["refund"], flows[number])
    if whole:
        exclusive(m, p)
    return m


def polygon(sides, inside):
    """Rows for |(a + a0, b + b0)| <= radius + slack."""
    shrink = math.cos(math.pi / sides) if inside else 1.0

    def circle(m, a, a0, b, b0, radius, slack=None):
        for i in range(sides):
            cos, sin = math.cos(2 * math.pi * i / sides), math.sin(2 * math.pi * i / sides)
            terms = [(x, w * cos) for x, w in a] + [(x, w * sin) for x, w in b]
            if slack is not None:
                terms.append((slack, -shrink))
            m.row(terms, high=shrink * radius - a0 * cos - b0 * sin)

    return circle


def reactive(m, p, site, terms, circle):
    D, r, elastic = p["step_hours"], site["reactive"], p["elastic"]
    T = len(p["import_price"])
    base = site["base_kw"] or [0.0] * T
    kvar = r["base_kvar"] or [0.0] * T
    net, up, down, shifted = terms
    for t in range(T):
        if r["rating_kva"] is not None:
            over = m.var(elastic["site_per_kwh"] * D)
            for reserve in (down[t], [(x, -w) for x, w in up[t]]):
                circle(m, net[t] + reserve, base[t], shifted[t], kvar[t], r["rating_kva"], over)
        price = elastic["reactive_per_kvarh"] * D
        if r["low_kvar"] is not None:
            m.row(shifted[t] + [(m.var(price), 1)], low=r["low_kvar"] - kvar[t])
        if r["high_kvar"] is not None:
            m.row(shifted[t] + [(m.var(price), -1)], high=r["high_kvar"] - kvar[t])
    for charge in r["charges"]:
        above = m.var(charge["per_kvar"], low=max(0.0, charge["to_date_kvar"] - charge["free_kvar"]))
        for t in charge["steps"]:
            m.row(shifted[t] + [(above, -1)], high=charge["free_kvar"] - kvar[t])


def refund(m, r, flows):
    """A ledger in kWh drawn; what returns is refunded out of what was drawn before."""
    ledger = m.var(low=r["ledger_kwh"], high=r["ledger_kwh"])
    for charged, discharged, driven in flows:
        back = m.var(-r["per_mwh"] / 1000)
        m.row([(back, 1)] + [(x, -w) for x, w in discharged], high=0)
        m.row([(back, r["drawn_per_returned"]), (ledger, -1)], high=0)
        after = m.var()
        m.row(
            [(after, 1), (ledger, -1), (back, r["drawn_per_returned"])] + [(x, -w) for x, w in charged] + driven,
            high=0,
        )
        ledger = after


def exclusive(m, p):
    """Of the blocks of a group that touch, one is sold."""
    for group in p["exclusive"]:
        members = []
        for k in group["products"]:
            for volume, block in zip(m.volumes[k], p["products"][k]["blocks"]):
                on = m.var(high=1, integer=True)
                m.row([(volume, 1), (on, -500.0)], high=0)
                if block["awarded_mw"] > 0:
                    m.row([(on, 1)], low=1)
                members.append((k, block["steps"], on))
        for k, one, first in members:
            for other, two, second in members:
                if k < other and one["start"] < two["end"] and two["start"] < one["end"]:
                    m.row([(first, 1), (second, 1)], high=1)


def activation(m, p, s, e, own, level, miss):
    """Energy for every activation a vehicle must carry."""
    D, n = p["step_hours"], len(own)
    ec, ed = s["charge_efficiency"], s["discharge_efficiency"]
    products = p["products"]

    def take(k, j, weight, drain, fill):
        if k not in own[j]:
            return
        rc, rd, dn = own[j][k]
        if rc is not None:
            drain += [(rc, -weight[0] * ec), (rd, -weight[0] / ed)]
        if dn is not None and products[k]["down"]["delivered"] > 0:
            fill.append((dn, weight[1] * products[k]["down"]["delivered"] / ed))

    def rows(t, drain, fill):
        if drain:
            m.row([(e[t], 1)] + drain + ([(miss, 1)] if miss is not None else []), low=level[t])
        if fill:
            m.row([(e[t], 1)] + fill, high=s["capacity"])

    def hours(k, way):
        return products[k][way]["endurance_hours"] if products[k][way] else 0.0

    if p["headroom"] == "Snapshot":
        for j in range(n):
            for t in (j, j + 1):
                drain, fill = [], []
                for k in own[j]:
                    take(k, j, (hours(k, "up"), hours(k, "down")), drain, fill)
                rows(t, drain, fill)
        return
    L = p["headroom"]["Window"]["recovery_steps"]

    def length(k, way):
        h = hours(k, way)
        return max(1, math.ceil(h / D - 1e-9)) if h > 0 else 0

    longest = max([length(k, w) for k in range(len(products)) for w in ("up", "down")], default=0)
    for i in range(1, n + 1):
        for t in range(max(1, i - longest + 1), min(n, i + L) + 1):
            drain, fill = [], []
            for k in range(len(products)):
                for j in range(0, min(i, t)):
                    inside = (j >= i - length(k, "up"), j >= i - length(k, "down"))
                    if any(inside):
                        one, two = [], []
                        take(k, j, (D, D), one, two)
                        if inside[0]:
                            drain += one
                        if inside[1]:
                            fill += two
            rows(t, drain, fill)


def sell(m, p, held, whole, remaining):
    D = p["step_hours"]
    everybody = [set()] + [set(g["vehicles"]) for g in p["groups"]]
    for k, product in enumerate(p["products"]):
        m.volumes.append([])
        for block in product["blocks"]:
            m.constant -= block["price"] * block["awarded_mw"]
            most = block["most_mw"] if block["most_mw"] is not None else INF
            volume = m.var(-block["price"], high=most if block["open"] else 0.0)
            m.volumes[k].append(volume)
            if whole and product["step_mw"] > 0:
                count = m.var(integer=True, high=10000)
                m.row([(volume, 1), (count, -product["step_mw"])], 0, 0)
                if product["minimum_mw"] > product["step_mw"]:
                    on = m.var(high=1, integer=True)
                    m.row([(volume, 1), (on, -product["minimum_mw"])], low=0)
                    m.row([(volume, 1), (on, -10000.0)], high=0)
            for t in range(block["steps"]["start"], block["steps"]["end"]):
                for way in ("up", "down"):
                    if not product[way]:
                        continue
                    want = 1000 * product[way]["power"]
                    owed = want * block["awarded_mw"]
                    short = m.var(p["elastic"]["award_per_kw_hour"] * D, high=owed)
                    for lost in everybody:
                        terms = [(x, 1) for x, v in held.get((k, way, t), []) if v not in lost]
                        m.row(terms + [(short, 1), (volume, -want)], low=owed)
                    for lost, left in remaining if way == "down" else []:
                        terms = [(x, 1) for x, v in held.get((k, way, t), []) if v not in lost]
                        terms += [(x, 1) for x in left.get((k, t), [])]
                        m.row(terms + [(short, 1), (volume, -want)], low=owed)


def limits(m, p, net, up, down):
    D, T = p["step_hours"], len(p["import_price"])

    def base(s, t):
        return p["sites"][s]["base_kw"][t] if p["sites"][s]["base_kw"] else 0.0

    def limit(members, t, most_in, most_out, price):
        total = sum(base(s, t) for s in members)
        load = [x for s in members for x in net[s][t]]
        if most_in is not None:
            over = m.var(price * D)
            m.row(load + [x for s in members for x in down[s][t]] + [(over, -1)], high=most_in - total)
        if most_out is not None:
            over = m.var(price * D)
            m.row(load + [(c, -v) for s in members for c, v in up[s][t]] + [(over, 1)], low=-most_out - total)
        return None if most_in is None else max(0.0, most_in - total), price * D

    found = []                                         # (sites, t, room for vehicles, price of a kW more)
    for s, site in enumerate(p["sites"]):
        for t in range(T):
            room = limit([s], t, site["import_kw"], site["export_kw"], p["elastic"]["site_per_kwh"])
            found.append(({s}, t, *room))
        for charge in site["demand"]:
            peak = m.var(charge["per_kw"], low=max(charge["to_date_kw"], charge["ratchet_kw"], 0.0))
            for t in charge["steps"]:
                m.row(net[s][t] + [(peak, -1)], high=-base(s, t))
    for area in p["areas"]:
        for t in range(T):
            most_in = area["import_kw"][t] if area["import_kw"] else None
            most_out = area["export_kw"][t] if area["export_kw"] else None
            room = limit(area["sites"], t, most_in, most_out, p["elastic"]["area_per_kwh"])
            found.append((set(area["sites"]), t, *room))
    return found


def dimmed(m, p, stays, rooms):
    """Draw that may be cut to what is left, from any boundary on and for so long; then back, within the limits.

    Gives for each dimming under which Down is held the vehicles and what they hold while it lasts: {(product, t): columns}.
    """
    D = p["step_hours"]
    remaining = []
    for dimming in p["dimmings"]:
        length = max(1, math.ceil(dimming["hours"] / D - 1e-9))
        members = {v for left in dimming["left"] for v in left["vehicles"]}
        back, held = {}, {}
        for left in dimming["left"]:
            together = {}
            for v in left["vehicles"]:
                s, e, _, downs = stays[v]
                f, n = s["share"], len(s["share"])
                low = [m.var(high=f[j] * s["charge_kw"]) for j in range(n)]
                high = [m.var(high=f[j] * s["charge_kw"]) for j in range(n)]
                for j in range(n):
                    t = s["first"] + j
                    m.row([(low[j], 1), (high[j], -1)], high=0)
                    drawn = [(low[j], 1)]
                    if dimming["holds_down"] and downs[j]:
                        for k, dn in downs[j]:
                            kept = m.var()
                            m.row([(kept, 1), (dn, -1)], high=0)
                            drawn.append((kept, 1))
                            held.setdefault((k, t), []).append(kept)
                        m.row([(high[j], 1)] + [(dn, 1) for _, dn in downs[j]], high=f[j] * s["charge_kw"])
                    m.row(drawn, high=f[j] * min(left["kw"], s["charge_kw"]))
                    if f[j] > 0:
                        together.setdefault(t, []).extend((x, w / f[j]) for x, w in drawn)
                    back[v, t] = high[j]
                miss = m.var(p["elastic"]["dimming_per_kwh"])
                for b in range(n):
                    # A step in which the vehicle comes or goes is dimmed as a whole.
                    end = b + length + (f[b] < 1)
                    end += end < n and f[end] < 1
                    gain = [(low[j] if j < end else high[j], D * s["charge_efficiency"]) for j in range(b, n)]
                    m.row([(e[b], 1), (miss, 1)] + gain, low=s["goal"])
            for terms in together.values():
                m.row(terms, high=left["kw"])
        for sites, t, room, price in rooms:
            here = [v for v, stay in enumerate(stays) if stay[0]["site"] in sites and 0 <= t - stay[0]["first"] < len(stay[2])]
            if room is None or not members.intersection(here):
                continue
            terms = []
            for v in here:
                s, _, loads, downs = stays[v]
                j = t - s["first"]
                terms += [(back[v, t], 1)] if v in members else loads[j]
                if v not in members or dimming["holds_down"]:
                    terms += [(dn, 1) for _, dn in downs[j]]
            m.row(terms + [(m.var(price), -1)], high=room)
        if dimming["holds_down"]:
            remaining.append((members, held))
    return remaining


def position(m, p, pool):
    imbalance = p["imbalance"]
    if imbalance is None:
        return
    D = p["step_hours"]
    bought = [[] for _ in pool]
    fixed = [0.0] * len(pool)
    for order in p["orders"]:
        steps = range(order["steps"]["start"], order["steps"]["end"])
        most = order["most_kw"] if order["open"] else 0.0
        mwh = D / 1000 * len(steps)
        buy = m.var(mwh * (order["price"] + order["half_spread"]), high=most)
        sell = m.var(-mwh * (order["price"] - order["half_spread"]), high=most)
        for t in steps:
            bought[t] += [(buy, -1), (sell, 1)]
            fixed[t] += order["held_kw"]
    for t, terms in enumerate(pool):
        short = m.var(D / 1000 * imbalance["short"][t])
        long = m.var(-D / 1000 * imbalance["long"][t])
        m.row(terms + bought[t] + [(short, -1), (long, 1)], fixed[t], fixed[t])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--sides", type=int, default=64)
    parser.add_argument("--inside", action="store_true")
    parser.add_argument("--method", default="ipm", choices=("ipm", "simplex", "choose"))
    args = parser.parse_args()
    # The solver writes to standard output on its own; the answers go where it cannot reach.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        begun = time.process_time()
        objective = build(json.loads(line), args.whole, polygon(args.sides, args.inside)).solve(args.method)
        print(json.dumps({"objective": objective, "seconds": time.process_time() - begun}), file=answers, flush=True)


if __name__ == "__main__":
    main()
