"""The image, the compose files and their settings: nobody here can build or run them, so what can be read is checked."""

import os
import pathlib
import re
import socket
import subprocess
import tempfile
import tomllib

import pytest
import yaml

from rendered import CHART, PROGRAM
from test_chart import known_roles

DEPLOY = CHART / "../../deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "shoal"}
SETTINGS = DEPLOY / "compose/shoal.toml"


def test_the_image_is_built_by_a_compiler_that_is_new_enough_and_runs_as_nobody_special():
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    stages = [line.split() for line in lines if line.startswith("FROM")]
    compiler = re.fullmatch(r"rust:([0-9.]+)-slim-bookworm", stages[0][1])
    workspace = tomllib.loads((CHART / "../../Cargo.toml").read_text())["workspace"]["package"]
    assert version(compiler[1]) >= version(workspace["rust-version"])
    assert stages[-1] == ["FROM", "scratch"]
    last = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")) :]
    assert "USER 10001:10001" in last and 'ENTRYPOINT ["/usr/bin/shoal"]' in last
    assert not [line for line in last if line.startswith("RUN")], "there is no shell in it"


def version(text):
    return tuple(map(int, text.split(".")))


def test_the_image_gets_what_the_build_reads_and_no_more():
    sent = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    members = tomllib.loads((CHART / "../../Cargo.toml").read_text())["workspace"]["members"]
    needed = {member.split("/")[0] for member in members} | {"Cargo.toml", "Cargo.lock", "proto", "deploy/image-root.sh"}
    assert needed <= sent
    for path in sent:
        assert (CHART / "../.." / path).exists(), path


def test_the_root_of_the_image_runs_the_program_and_has_no_shell():
    # Not pytest's folder, which stays: a program with its symbols is large.
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / "root"
        laid = subprocess.run([DEPLOY / "image-root.sh", PROGRAM, root], capture_output=True, text=True, check=False)
        assert laid.returncode == 0, laid.stderr
        linked = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(/\S+)", linked):
            assert (root / library.lstrip("/")).is_file(), library
        assert not list(root.rglob("*sh"))
        if os.geteuid() == 0:
            said = subprocess.run(["chroot", "--userspec=10001:10001", root, "/usr/bin/shoal", "--version"], capture_output=True, text=True, check=False)
            assert said.returncode == 0 and said.stdout.startswith("shoal "), said.stderr


@pytest.mark.parametrize("name", OURS)
def test_a_service_may_do_no_more_than_it_must(name):
    service = OURS[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"] and "privileged" not in service
    grace = tomllib.loads(SETTINGS.read_text()).get("process", {}).get("grace_seconds", 20)
    assert int(service["stop_grace_period"].rstrip("s")) > grace


def test_each_service_plays_a_role_that_the_program_knows_under_a_name_of_its_own():
    names = []
    for name, service in OURS.items():
        verb, *roles = service["command"]
        assert (verb, roles) == ("migrate", []) if name == "migrate" else (verb == "serve" and set(roles) <= known_roles())
        names += [service["environment"]["SHOAL_LOG__PROCESS"]] if verb == "serve" else []
    assert len(names) == len(set(names)) >= 2


@pytest.mark.parametrize("name", [name for name in OURS if name != "migrate"])
def test_the_program_takes_the_settings_of_compose(name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = {"SHOAL_CONFIG": str(SETTINGS), "SHOAL_ADMIN__LISTEN": f"127.0.0.1:{port}", **OURS[name]["environment"]}
        command = [PROGRAM, *OURS[name]["command"]]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 1 and "admin.listen" in ran.stderr, ran.stderr


def test_prometheus_asks_each_service_of_compose():
    wanted = {f"shoal-{name}": f"{name}:9221" for name in OURS if name != "migrate"}
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert {job["job_name"]: job["static_configs"][0]["targets"][0] for job in jobs} == wanted


def test_files_that_are_mounted_are_there_and_volumes_are_declared():
    for file in ("compose.yaml", "compose.postgres.yaml"):
        declared = yaml.safe_load((DEPLOY / file).read_text())
        for name, service in declared["services"].items():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                known = (DEPLOY / source).exists() if source.startswith(".") else source in declared["volumes"]
                assert known, f"{file}: {name}: {source}"
            assert name in COMPOSE["services"] or service.get("image")
