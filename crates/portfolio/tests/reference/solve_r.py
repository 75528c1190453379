#!/usr/bin/env python3
"""Reference problem R in its own full variables, solved with HiGHS.

Written from the contract's text alone, so that it shares no idea with the Rust solver: every variable and every row of
R is there, none is eliminated. Importable (`solve(problem)`), or run as

    solve_r.py PROBLEMS.json [--method choose|simplex|ipm]

where the file holds one problem or a list of them (the fields of `portfolio::reference::Problem`; a missing limit is
null). Prints one JSON document per problem: status, objective, net_cost, energy_short_kwh, block_mw, build_seconds,
solve_seconds. Units: kW, kWh, EUR per MWh, EUR per MW and block.
"""

import argparse
import json
import math
import sys
import time

import highspy
import numpy as np

INF = highspy.kHighsInf


class Lp:
    """Columns and rows gathered in arrays."""

    def __init__(self):
        self.cost, self.low, self.high = [], [], []
        self.columns = 0
        self.rows = 0
        self.row_low, self.row_high = [], []
        self.at_row, self.at_column, self.value = [], [], []

    def add(self, count, cost, low, high):
        """New columns; returns their indices."""
        for store, what in ((self.cost, cost), (self.low, low), (self.high, high)):
            store.append(np.broadcast_to(np.asarray(what, float), (count,)))
        first = self.columns
        self.columns += count
        return np.arange(first, first + count)

    def constrain(self, low, terms, high, count=None):
        """Rows `low <= sum(factor * column) <= high`, one for each entry of the terms' columns."""
        if count is None:
            count = len(terms[0][0])
        rows = np.arange(self.rows, self.rows + count)
        self.rows += count
        self.row_low.append(np.broadcast_to(np.asarray(low, float), (count,)))
        self.row_high.append(np.broadcast_to(np.asarray(high, float), (count,)))
        for columns, factor in terms:
            self.at_row.append(rows)
            self.at_column.append(np.asarray(columns))
            self.value.append(np.broadcast_to(np.asarray(factor, float), (count,)))

    def sum_row(self, low, terms, high):
        """One row over all entries of the terms' columns."""
        row = self.rows
        self.rows += 1
        self.row_low.append(np.array([low], float))
        self.row_high.append(np.array([high], float))
        for columns, factor in terms:
            columns = np.atleast_1d(np.asarray(columns))
            self.at_row.append(np.full(len(columns), row))
            self.at_column.append(columns)
            self.value.append(np.broadcast_to(np.asarray(factor, float), (len(columns),)))

    def highs(self, method):
        def cat(parts, kind=float):
            return np.concatenate(parts).astype(kind) if parts else np.zeros(0, kind)

        row, column, value = cat(self.at_row, np.int64), cat(self.at_column, np.int64), cat(self.value)
        order = np.lexsort((row, column))
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self.columns, self.rows
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = cat(self.cost), cat(self.low), cat(self.high)
        lp.row_lower_, lp.row_upper_ = cat(self.row_low), cat(self.row_high)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = np.searchsorted(column[order], np.arange(self.columns + 1)).astype(np.int32)
        lp.a_matrix_.index_ = row[order].astype(np.int32)
        lp.a_matrix_.value_ = value[order]
        model = highspy.Highs()
        model.setOptionValue("output_flag", False)
        model.setOptionValue("solver", method)
        model.passModel(lp)
        return model


def limit(value):
    """A limit of a site; null is none."""
    return INF if value is None or math.isinf(value) else value


def build(problem):
    """R as an `Lp`, and the columns needed to read the answer."""
    lp = Lp()
    hours = problem["step_hours"]
    buy = np.array(problem["import_price"], float)
    sell = np.array(problem["export_price"], float)
    steps = len(buy)
    products = problem["reserves"]
    on_sale = np.zeros((len(products), steps), bool)
    for p, product in enumerate(products):
        for block in product["blocks"]:
            on_sale[p, block["steps"]["start"] : block["steps"]["end"]] = True
    up = [[[] for _ in range(steps)] for _ in products]
    down = [[[] for _ in range(steps)] for _ in products]
    site_net = [{} for _ in problem["sites"]]
    site_up = [{} for _ in problem["sites"]]
    site_down = [{} for _ in problem["sites"]]
    shorts = []
    for session in problem["sessions"]:
        share = np.array(session["share"], float)
        m, first = len(share), session["first"]
        span = slice(first, first + m)
        pc, pd = session["charge_kw"], session["discharge_kw"]
        ec, ed = session["charge_efficiency"], session["discharge_efficiency"]
        low, high = session["floor"], session["capacity"]
        c = lp.add(m, hours / 1000 * buy[span], 0, share * pc)
        d = lp.add(m, hours / 1000 * (problem["wear"] - sell[span]), 0, share * pd)
        e = lp.add(m + 1, 0, low, high)
        lp.sum_row(session["arrival"], [(e[0], 1)], session["arrival"])
        xi = lp.add(1, problem["shortfall"], 0, INF)
        shorts.append(xi[0])
        if m:
            if pd > 0 and pc > 0:
                lp.constrain(-INF, [(c, 1 / pc), (d, 1 / pd)], share)
            lp.constrain(0, [(e[1:], 1), (e[:-1], -1), (c, -hours * ec), (d, hours / ed)], 0)
        lp.sum_row(session["goal"], [(e[-1], 1), (xi, 1)], INF)
        if session["site"] is not None:
            for j in range(m):
                site_net[session["site"]].setdefault(first + j, []).append((c[j], d[j]))
        ruc, rud, rd = {}, {}, {}
        whole = share >= 1.0
        for p, product in enumerate(products):
            active = whole & on_sale[p, span]
            most_up = np.where(active & (product["direction"] != "Down"), INF, 0.0)
            most_down = np.where(active & (product["direction"] != "Up"), INF, 0.0)
            ruc[p], rud[p] = lp.add(m, 0, 0, most_up), lp.add(m, 0, 0, most_up)
            rd[p] = lp.add(m, 0, 0, most_down)
            for j in np.flatnonzero(active):
                up[p][first + j] += [ruc[p][j], rud[p][j]]
                down[p][first + j].append(rd[p][j])
                if session["site"] is not None:
                    site_up[session["site"]].setdefault(first + j, []).extend([ruc[p][j], rud[p][j]])
                    site_down[session["site"]].setdefault(first + j, []).append(rd[p][j])
        if products and whole.any():
            headroom(problem, lp, whole, (c, d, e), (ruc, rud, rd), session)
    volumes = pool(problem, lp, up, down)
    for s, site in enumerate(problem["sites"]):
        base = site["base_kw"] or [0.0] * steps
        take, give = limit(site["import_kw"]), limit(site["export_kw"])
        for t in range(steps):
            pairs = site_net[s].get(t, [])
            net = [([q[0] for q in pairs], 1), ([q[1] for q in pairs], -1)] if pairs else []
            if take < INF:
                lp.sum_row(-INF, net + [(site_down[s].get(t, []), 1)], take - base[t])
            if give < INF:
                lp.sum_row(-give - base[t], net + [(site_up[s].get(t, []), -1)], INF)
    return lp, np.array(shorts, int), volumes


def headroom(problem, lp, whole, plan, held, session):
    """Rows that keep power and energy for the reserves of one session."""
    (c, d, e), (ruc, rud, rd) = plan, held
    products, hours, m = problem["reserves"], problem["step_hours"], len(c)
    pc, pd = session["charge_kw"], session["discharge_kw"]
    ec, ed = session["charge_efficiency"], session["discharge_efficiency"]
    low, high = session["floor"], session["capacity"]
    at = np.flatnonzero(whole)
    every = range(len(products))
    factor = [product["power_factor"] for product in products]
    lp.constrain(-INF, [(ruc[p][at], 1) for p in every] + [(c[at], -1)], 0)
    ups = [(r[p][at], -factor[p]) for p in every for r in (ruc, rud)]
    lp.constrain(-pd, [(c[at], 1), (d[at], -1)] + ups, INF)
    lp.constrain(-INF, [(c[at], 1), (d[at], -1)] + [(rd[p][at], factor[p]) for p in every], pc)
    if problem["headroom"] == "Snapshot":
        span = [product["endurance_hours"] for product in products]
        for k in (at, at + 1):
            drain = [(ruc[p][at], -span[p] * ec) for p in every] + [(rud[p][at], -span[p] / ed) for p in every]
            lp.constrain(low, [(e[k], 1)] + drain, INF)
            lp.constrain(-INF, [(e[k], 1)] + [(rd[p][at], span[p] / ed) for p in every], high)
        return
    recovery = problem["headroom"]["Window"]["recovery_steps"]
    n = [max(1, math.ceil(product["endurance_hours"] / hours - 1e-9)) for product in products]
    for i in range(1, m + 1):
        for t in range(max(1, i - max(n) + 1), min(m, i + recovery) + 1):
            drain, fill = [], []
            for p in every:
                j = np.arange(max(0, i - n[p]), min(i, t))
                drain += [(ruc[p][j], -hours * ec), (rud[p][j], -hours / ed)]
                fill.append((rd[p][j], hours / ed))
            lp.sum_row(low, [(e[t], 1)] + drain, INF)
            lp.sum_row(-INF, [(e[t], 1)] + fill, high)


def pool(problem, lp, up, down):
    """Volumes of the blocks in MW, and the rows that hold them."""
    volumes = []
    for p, product in enumerate(problem["reserves"]):
        own = []
        for block in product["blocks"]:
            volume = lp.add(1, -block["price"], 0, INF)[0]
            own.append(volume)
            for t in range(block["steps"]["start"], block["steps"]["end"]):
                if product["direction"] != "Down":
                    lp.sum_row(0, [(up[p][t], 1), (volume, -1000)], INF)
                if product["direction"] != "Up":
                    lp.sum_row(0, [(down[p][t], 1), (volume, -1000)], INF)
        volumes.append(own)
    return volumes


def solve(problem, method="choose"):
    """Solves one problem; the answer is a dict of plain numbers."""
    begin = time.perf_counter()
    lp, shorts, volumes = build(problem)
    model = lp.highs(method)
    built = time.perf_counter()
    model.run()
    done = time.perf_counter()
    status = model.modelStatusToString(model.getModelStatus())
    answer = {"status": status, "build_seconds": built - begin, "solve_seconds": done - built}
    if status == "Optimal":
        x = np.array(model.getSolution().col_value)
        short = float(x[shorts].sum()) if len(shorts) else 0.0
        objective = model.getInfo().objective_function_value
        answer |= {
            "objective": objective,
            "net_cost": objective - problem["shortfall"] * short,
            "energy_short_kwh": short,
            "block_mw": [[float(x[v]) for v in own] for own in volumes],
        }
    return answer


def main():
    parser = argparse.ArgumentParser(description="Solves reference problem R with HiGHS.")
    parser.add_argument("problems")
    parser.add_argument("--method", default="choose", choices=["choose", "simplex", "ipm"])
    arguments = parser.parse_args()
    with open(arguments.problems, encoding="utf-8") as file:
        problems = json.load(file)
    for problem in problems if isinstance(problems, list) else [problems]:
        json.dump(solve(problem, arguments.method), sys.stdout)
        print()


if __name__ == "__main__":
    main()
