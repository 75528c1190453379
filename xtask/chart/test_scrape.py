"""Debian's Prometheus asks a running process, with the rules of `deploy/`."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import yaml

from rendered import CHART, PROGRAM

DEPLOY = CHART / "../../deploy"
PATIENCE = 120


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def until(what, met):
    """Waits for something that comes in a moment; what it met last is told if it does not."""
    deadline, last = time.monotonic() + PATIENCE, None
    while time.monotonic() < deadline:
        try:
            last = met()
            if last:
                return last
        except OSError as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"{what}: {last}")


def asked(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


class Running:
    """A process that is ended with the test."""

    def __init__(self, *command, env=None):
        self.command, self.env = list(map(str, command)), env

    def __enter__(self):
        self.process = subprocess.Popen(self.command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self.process

    def __exit__(self, *failed):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def test_prometheus_scrapes_a_process_and_evaluates_every_rule(tmp_path):
    prometheus = pathlib.Path(os.environ["SHOAL_PROMTOOL"]).with_name("prometheus")
    admin, port = free_port(), free_port()
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str((DEPLOY / "prometheus/alerts.yaml").resolve())]
    for job in config["scrape_configs"]:
        here = job["job_name"] == "shoal-telemetry-ingest"
        job["static_configs"] = [{"targets": [f"127.0.0.1:{admin}"] if here else []}]
    written = tmp_path / "prometheus.yml"
    written.write_text(yaml.safe_dump(config))
    settings = {
        "PATH": os.environ["PATH"],
        "SHOAL_STORE__DIR": str(tmp_path / "tables"),
        "SHOAL_ADMIN__LISTEN": f"127.0.0.1:{admin}",
        "SHOAL_GRPC__TELEMETRY_INGEST": "127.0.0.1:0",
    }
    server = [prometheus, f"--config.file={written}", f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with Running(PROGRAM, "serve", "telemetry-ingest", env=settings), Running(*server):
        until("the process is ready", lambda: asked(f"http://127.0.0.1:{admin}/readyz"))

        def value(expression):
            query = urllib.parse.urlencode({"query": expression})
            said = json.loads(asked(f"http://127.0.0.1:{port}/api/v1/query?{query}"))
            return [float(sample["value"][1]) for sample in said["data"]["result"]]

        until("Prometheus has asked the process", lambda: value('up{job="shoal-telemetry-ingest"} == 1'))
        until("a figure of ours arrived", lambda: value('{__name__=~"shoal_.+", job="shoal-telemetry-ingest"}'))

        def evaluated():
            groups = json.loads(asked(f"http://127.0.0.1:{port}/api/v1/rules"))["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert all(rule["health"] != "err" for rule in rules), [r.get("lastError") for r in rules]
            return len(rules) > 20 and all(rule["health"] == "ok" for rule in rules)

        until("every rule was evaluated", evaluated)
