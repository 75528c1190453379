"""Alert rules, the configuration of Prometheus and the expressions of the dashboards, as Prometheus reads them."""

import json
import os
import subprocess

import pytest
import yaml

from rendered import CHART, FILES, of_kind

DEPLOY = CHART / "../../deploy"
DASHBOARDS = sorted((CHART / "files/dashboards").glob("*.json"))


def promtool(*arguments):
    ran = subprocess.run([os.environ["SHOAL_PROMTOOL"], *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_rules_are_rules():
    promtool("check", "rules", CHART / "files/alerts.yaml")


def test_the_configuration_of_prometheus_is_one_and_finds_the_rules():
    promtool("check", "config", DEPLOY / "prometheus/prometheus.yml")


def test_alerts_come_when_they_must_and_not_before():
    promtool("test", "rules", DEPLOY / "prometheus/alerts_test.yaml")


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.name)
def test_every_panel_asks_prometheus_something_that_it_understands(file, tmp_path):
    panels = [panel for panel in json.loads(file.read_text())["panels"] if panel["type"] != "row"]
    rules = []
    for panel in panels:
        assert panel["targets"] and panel["title"]
        for target in panel["targets"]:
            asked = target["expr"].replace("$__rate_interval", "5m").replace("$__range", "3h")
            assert "$" not in asked, asked
            rules.append({"record": f"panel:{panel['id']}:{target['refId']}", "expr": asked})
    written = tmp_path / "panels.yaml"
    written.write_text(yaml.safe_dump({"groups": [{"name": file.stem, "rules": rules}]}))
    promtool("check", "rules", written)


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.name)
def test_panels_do_not_overlap(file):
    board = json.loads(file.read_text())
    cells = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        taken = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        cells |= taken
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_dashboards_are_found_by_different_names():
    names = [json.loads(file.read_text())["uid"] for file in DASHBOARDS]
    assert len(names) == len(set(names)) >= 4


def test_the_chart_carries_the_rules_and_the_dashboards_as_they_stand():
    wanted = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    carried = [rule for file in FILES for rule in of_kind(file, "PrometheusRule")]
    assert carried
    for rule in carried:
        names = [r["alert"] for group in rule["spec"]["groups"] for r in group["rules"]]
        assert names == [r["alert"] for group in wanted["groups"] for r in group["rules"]]
        exprs = [r["expr"] for group in rule["spec"]["groups"] for r in group["rules"]]
        assert exprs == [r["expr"] for group in wanted["groups"] for r in group["rules"]]
    boards = {name: text for file in FILES for each in of_kind(file, "ConfigMap") for name, text in each["data"].items() if name.endswith(".json")}
    assert {name: json.loads(text) for name, text in boards.items()} == {file.name: json.loads(file.read_text()) for file in DASHBOARDS}
