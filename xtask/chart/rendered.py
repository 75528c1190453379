"""What helm makes of the chart, as objects.

The environment says where things are: SHOAL_HELM the program, SHOAL_CHART the chart, SHOAL_BIN the program of the platform.
"""

import functools
import os
import pathlib
import subprocess
import tempfile
import tomllib

import yaml

HELM = os.environ["SHOAL_HELM"]
CHART = pathlib.Path(os.environ["SHOAL_CHART"])
PROGRAM = os.environ["SHOAL_BIN"]
CASES = pathlib.Path(__file__).parent / "cases"

# Values files of the chart, and cases that switch on what they leave off.
FILES = sorted(CHART.glob("values*.yaml")) + sorted(CASES.glob("*.yaml"))
WORKLOADS = ("Deployment", "StatefulSet", "Job", "CronJob")
# The roles that `shoal serve` may have to play, by their key in the values.
ROLES = {
    "edge": "edge",
    "telemetryIngest": "telemetry-ingest",
    "forecaster": "forecaster",
    "optimizer": "optimizer",
    "gateway": "gateway",
    "console": "console",
}


def helm(*arguments):
    """Runs helm; the result has its status and what it said."""
    return subprocess.run([HELM, *map(str, arguments)], capture_output=True, text=True, check=False)


def template(*files):
    return helm("template", "shoal", CHART, "--namespace", "grid", *[word for file in files for word in ("--values", file)])


def template_of(values):
    """As `template`, with the values at hand."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        return template(file.name)


@functools.cache
def objects(file):
    """Every object that a values file makes."""
    made = template(file)
    assert made.returncode == 0, f"{file.name}: {made.stderr}"
    return [each for each in yaml.safe_load_all(made.stdout) if each]


def of_kind(file, *kinds):
    return [each for each in objects(file) if each["kind"] in kinds]


def component(each):
    return each["metadata"]["labels"].get("app.kubernetes.io/component")


def pod(workload):
    spec = workload["spec"]
    return spec.get("jobTemplate", {}).get("spec", spec)["template"]


def container(workload):
    (only,) = pod(workload)["spec"]["containers"]
    return only


def settings(file):
    """The settings of each service, by its role, as the program would read them."""
    maps = [each for each in of_kind(file, "ConfigMap") if "shoal.toml" in each["data"]]
    return {component(each): tomllib.loads(each["data"]["shoal.toml"]) for each in maps}


def values(file):
    """The values that hold with a file: its own over the chart's."""
    base = yaml.safe_load((CHART / "values.yaml").read_text())
    return merged(base, yaml.safe_load(file.read_text()) or {})


def merged(below, above):
    both = dict(below)
    for key, value in above.items():
        if value is None:
            both.pop(key, None)
        elif isinstance(value, dict) and isinstance(both.get(key), dict):
            both[key] = merged(both[key], value)
        else:
            both[key] = value
    return both
