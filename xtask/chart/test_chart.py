"""The chart as helm renders it, for each values file: is it a cluster that may run, and is nonsense refused?"""

import copy
import functools
import json
import re
import shutil
import socket
import subprocess
import tomllib

import jsonschema
import kubernetes_validate
import pytest
import yaml

from rendered import (
    CHART,
    FILES,
    PROGRAM,
    ROLES,
    WORKLOADS,
    component,
    container,
    helm,
    objects,
    of_kind,
    pod,
    settings,
    template,
    template_of,
    values,
)

# The oldest Kubernetes that the chart is for (a pause before the stop without a shell), and the newest whose schemas are here.
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()

# Fields without which the operators refuse their objects, by kind.
FOREIGN = {
    "ScaledObject": ["spec.scaleTargetRef.name", "spec.triggers.0.type", "spec.triggers.0.metadata", "spec.minReplicaCount", "spec.maxReplicaCount"],
    "PodMonitor": ["spec.selector.matchLabels", "spec.podMetricsEndpoints.0.port", "spec.podMetricsEndpoints.0.path"],
    "PrometheusRule": ["spec.groups.0.name", "spec.groups.0.rules.0.alert", "spec.groups.0.rules.0.expr"],
}
GROUPS = {"ScaledObject": "keda.sh/v1alpha1", "PodMonitor": "monitoring.coreos.com/v1", "PrometheusRule": "monitoring.coreos.com/v1"}

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


@each_file
def test_lint_finds_nothing(file):
    said = helm("lint", "--strict", CHART, "--values", file)
    assert said.returncode == 0, said.stdout + said.stderr


@each_file
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_fits_the_schema_of_kubernetes(file, version):
    ours = [each for each in objects(file) if each["kind"] not in FOREIGN]
    assert len(ours) > 5
    for each in ours:
        kubernetes_validate.validate(each, version, strict=True)


@each_file
def test_objects_of_operators_have_what_they_need(file):
    for each in of_kind(file, *FOREIGN):
        assert each["apiVersion"] == GROUPS[each["kind"]]
        for path in FOREIGN[each["kind"]]:
            found = each
            for step in path.split("."):
                found = found[int(step)] if step.isdigit() else found[step]
            assert found not in (None, "", {}), f"{each['kind']}: {path}"
        if each["kind"] == "ScaledObject":
            target = each["spec"]["scaleTargetRef"]
            assert (target["kind"], target["name"]) in {(w["kind"], w["metadata"]["name"]) for w in of_kind(file, *WORKLOADS)}
            for trigger in each["spec"]["triggers"]:
                needed = {"kafka": ["bootstrapServers", "consumerGroup", "topic", "lagThreshold"], "prometheus": ["serverAddress", "query", "threshold"]}
                for key in needed[trigger["type"]]:
                    value = trigger["metadata"][key]
                    assert isinstance(value, str) and value, f"{trigger['type']}: {key}: operators take text, met {value!r}"


def test_the_cases_reach_every_kind_of_object():
    kinds = {each["kind"] for file in FILES for each in objects(file)}
    assert kinds >= set(FOREIGN) | {"HorizontalPodAutoscaler", "StatefulSet", "Deployment", "Job", "CronJob", "NetworkPolicy", "PodDisruptionBudget", "PersistentVolumeClaim"}
    lags = [t for file in FILES for s in of_kind(file, "ScaledObject") for t in s["spec"]["triggers"] if t["type"] == "kafka"]
    assert lags, "nothing scales on what a consumer is behind"


@each_file
def test_names_are_unique_and_what_is_referred_to_is_there(file):
    names = [(each["kind"], each["metadata"]["name"]) for each in objects(file)]
    assert len(names) == len(set(names))
    for workload in of_kind(file, *WORKLOADS):
        spec = pod(workload)["spec"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in names
        for volume in spec["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            elsewhere = (None, values(file)["volume"]["existingClaim"], values(file)["export"]["existingClaim"])
            assert claim in elsewhere or ("PersistentVolumeClaim", claim) in names
        assert {m["name"] for m in container(workload)["volumeMounts"]} == {v["name"] for v in spec["volumes"]}
    for workload in of_kind(file, "StatefulSet"):
        assert ("Service", workload["spec"]["serviceName"]) in names


@each_file
def test_selectors_find_the_pods_of_one_service(file):
    pods = [(component(w), pod(w)["metadata"]["labels"], container(w)) for w in of_kind(file, *WORKLOADS)]
    for service in of_kind(file, "Service", "PodDisruptionBudget"):
        selector = service["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        found = [(role, only) for role, labels, only in pods if selector.items() <= labels.items()]
        assert [role for role, _ in found] == [component(service)]
        ports = {port["name"] for port in found[0][1]["ports"]}
        for port in service["spec"].get("ports", []):
            assert port["targetPort"] in ports
    for service in of_kind(file, "Service"):
        offered = {port["targetPort"] for port in service["spec"]["ports"]}
        assert "admin" not in offered, "metrics are for Prometheus, which asks pods"


@each_file
def test_pods_can_do_no_more_than_they_must(file):
    for workload in of_kind(file, *WORKLOADS):
        spec, only = pod(workload)["spec"], container(workload)
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert "hostNetwork" not in spec and "hostPID" not in spec
        assert only["resources"]["limits"]["memory"] and only["resources"]["requests"]["cpu"]
        for mount in only["volumeMounts"]:
            assert mount.get("readOnly") or mount["name"] in ("data", "tmp", "history")
    for account in of_kind(file, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert not of_kind(file, "Secret", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


@each_file
def test_a_pod_that_is_asked_to_go_has_time_for_its_drain(file):
    for workload in of_kind(file, "Deployment", "StatefulSet"):
        only = container(workload)
        before = only["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = settings(file)[component(workload)]["process"]["grace_seconds"]
        assert pod(workload)["spec"]["terminationGracePeriodSeconds"] > before + drain
        assert only["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
        assert only["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}


@each_file
def test_what_must_be_alone_is_replaced_before_the_next_starts_and_the_rest_without_a_gap(file):
    shares = values(file)["telemetryIngest"]["sharesPartitions"]
    alone = {"forecaster", "optimizer"} | (set() if shares else {"telemetry-ingest"})
    for workload in of_kind(file, "Deployment"):
        strategy = workload["spec"]["strategy"]
        if component(workload) in alone:
            assert strategy == {"type": "Recreate"} and workload["spec"]["replicas"] == 1
        else:
            assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    for workload in of_kind(file, "Deployment", "StatefulSet"):
        names = {e["name"]: e.get("value") for e in container(workload)["env"]}
        # Two processes of one name would append each other's outbox; one whose name changes would never find its own.
        lasting = workload["kind"] == "StatefulSet" or component(workload) in alone
        assert lasting or component(workload) in ("edge", "console"), "only these store no records beside rows"
        assert names["SHOAL_LOG__PROCESS"] == (component(workload) if component(workload) in alone else "$(POD_NAME)")


@each_file
def test_nothing_goes_in_or_out_but_what_is_named(file):
    policies = {component(each): each["spec"] for each in of_kind(file, "NetworkPolicy")}
    if not values(file)["networkPolicy"]["enabled"]:
        assert not policies
        return
    nothing = policies.pop(None)
    assert nothing["policyTypes"] == ["Ingress", "Egress"] and not nothing.get("ingress") and not nothing.get("egress")
    for workload in of_kind(file, *WORKLOADS):
        assert nothing["podSelector"]["matchLabels"].items() <= pod(workload)["metadata"]["labels"].items()
        assert component(workload) in policies
    admin = 9221
    for role, policy in policies.items():
        for rule in policy.get("ingress", []):
            (port,) = [p["port"] for p in rule["ports"]]
            assert rule.get("from") or (role == "edge" and port != admin), f"{role} is open to everybody on {port}"
        for rule in policy["egress"]:
            assert rule["ports"], f"{role} reaches every port of {rule.get('to')}"
    brokers = {int(broker.rpartition(":")[2]) for broker in values(file)["config"]["log"]["brokers"].split(",")}
    tables = {5432} if values(file)["config"]["store"].get("url") else set()
    for role, policy in policies.items():
        reached = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
        assert reached >= brokers | tables | {53}, role
        assert (5432 in reached) == bool(tables), role


@each_file
def test_who_asks_whom_may_pass_on_both_sides(file):
    policies = {component(each): each["spec"] for each in of_kind(file, "NetworkPolicy")}
    if not policies:
        return
    own = re.compile(r"^https?://shoal-([a-z-]+):([0-9]+)$")
    for role, config in settings(file).items():
        for address in config.get("peers", {}).values():
            found = own.match(address)
            if not found:
                continue
            asked, port = found[1], int(found[2])
            out = [r for r in policies[role]["egress"] if {"protocol": "TCP", "port": port} in r["ports"] and selects(r["to"], asked)]
            into = [r for r in policies[asked]["ingress"] if {"protocol": "TCP", "port": port} in r["ports"] and selects(r["from"], role)]
            assert out and into, f"{role} asks {asked} at {port}"


@pytest.mark.parametrize(("url", "port"), [("https://o.example", 443), ("http://o.example/a:1", 80), ("http://[2001:db8::1]:9300", 9300), ("https://o:8443/v1", 8443)])
def test_the_gateway_reaches_the_port_of_its_operator(url, port):
    made = template_of({"config": {"peers": {"operator": url}}})
    assert made.returncode == 0, made.stderr
    policies = [each for each in yaml.safe_load_all(made.stdout) if each["kind"] == "NetworkPolicy" and component(each) == "gateway"]
    assert port in [p["port"] for rule in policies[0]["spec"]["egress"] for p in rule["ports"]]


@pytest.mark.parametrize(("url", "port"), [("http://collector:4317", 4317), ("https://otlp.example", 443)])
def test_every_pod_reaches_the_collector_that_is_named_and_none_without(url, port):
    for telemetry, reaches in (({"otlp": url}, True), ({}, False)):
        made = template_of({"config": {"telemetry": telemetry}})
        assert made.returncode == 0, made.stderr
        policies = [each for each in yaml.safe_load_all(made.stdout) if each["kind"] == "NetworkPolicy" and each["spec"].get("egress")]
        assert len(policies) > 6
        for policy in policies:
            ports = [p["port"] for rule in policy["spec"]["egress"] for p in rule["ports"] if len(rule["ports"]) == 1]
            assert (port in ports) == reaches, f"{policy['metadata']['name']}: {ports}"


def selects(peers, role):
    return any(p.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component") == role for p in peers)


@each_file
def test_settings_are_the_values_and_whole_numbers_stay_whole(file):
    wanted = values(file)["config"]
    for role, config in settings(file).items():
        sections = {section: value for section, value in config.items() if section not in ("peers", "tls")}
        for section, value in sections.items():
            said = copy.deepcopy(value)
            if section == "store" and "url" in said:
                assert said.pop("password_file") == "/etc/shoal/database/password"
            if section == "edge":
                asked = wanted["edge"].get("security", {})
                said["security"] = {k: v for k, v in said["security"].items() if k in asked}
            assert same(said, wanted[section]), f"{role}: [{section}]"
        others = {name.replace("-", "_") for name in ROLES.values()} - {role.replace("-", "_")}
        assert not others & set(config), "a change in the section of another service would restart this one"


def same(one, other):
    """Equal, and an integer where a value is whole: a setting that counts refuses 1.0."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and one.is_integer():
        return False
    return one == other and isinstance(one, bool) == isinstance(other, bool)


@each_file
def test_no_secret_stands_in_the_settings(file):
    for config in settings(file).values():
        assert "password" not in config["store"]
        assert not re.search("://[^/@]*:[^/@]*@", json.dumps(config)), "an address holds a password"


def known_roles():
    said = subprocess.run([PROGRAM, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^\s+- ([a-z-]+):", said, re.M)) & set(ROLES.values())


def test_only_roles_that_the_program_plays_are_on_by_default():
    for file in FILES:
        if file.parent == CHART:
            on = {role for key, role in ROLES.items() if values(file)[key]["enabled"]}
            assert on <= known_roles(), file.name


@each_file
def test_the_program_takes_the_settings(file, tmp_path):
    known = known_roles()
    assert known >= {"edge", "telemetry-ingest"}
    # Its port of health is taken: a process that took its settings ends there, one that refused them before.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for role, config in settings(file).items():
            if role not in known or not set(config) <= keys_known("nobody"):
                continue
            if not set(config["store"]) <= keys_known("store.nobody"):
                pytest.skip(f"this program does not read all of {set(config['store'])} in [store]")
            (tmp_path / "password").write_text("word\n")
            password = {"SHOAL_STORE__PASSWORD_FILE": str(tmp_path / "password")} if "url" in config["store"] else {}
            written = tmp_path / f"{role}.toml"
            (text,) = [e["data"]["shoal.toml"] for e in of_kind(file, "ConfigMap") if component(e) == role and "shoal.toml" in e["data"]]
            written.write_text(text)
            ran = subprocess.run(
                [PROGRAM, "serve", role, "--config", written],
                env={"SHOAL_ADMIN__LISTEN": address, "PATH": "/nowhere", **password},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert ran.returncode == 1 and "admin.listen" in ran.stderr, f"{role}: status {ran.returncode}: {ran.stderr}"


@functools.cache
def keys_known(unknown):
    """Keys that this program reads beside an unknown one: it names them when it refuses that one."""
    variable = "SHOAL_" + (unknown if "." in unknown else f"{unknown}.key").upper().replace(".", "__")
    ran = subprocess.run([PROGRAM, "serve", "edge"], env={variable: "1"}, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2 and "nobody" in ran.stderr, "an unknown key is refused"
    return set(re.findall(r"`([a-z_]+)`", ran.stderr)) - {"nobody"}


# What a slip of the pen looks like, and a word of the answer.
SLIPS = [
    ({"egde": {"enabled": True}}, "egde"),
    ({"edge": {"replica": 3}}, "replica"),
    ({"edge": {"resources": {"requests": {"cpus": "1"}}}}, "cpus"),
    ({"edge": {"secrets": {"credential": "x"}}}, "credential"),
    ({"telemetryIngest": {"autoscaling": {"lagPerReplicas": 5}}}, "lagPerReplicas"),
    ({"networkPolicy": {"station": []}}, "station"),
    ({"monitoring": {"rules": {"enable": True}}}, "enable"),
    ({"config": {"log": {"brokers": "kafka"}}}, "brokers"),
    ({"config": {"Log": {}}}, "Log"),
    ({"config": {"edge": {"security": {"profile": "tls"}}}}, "profile"),
    ({"config": {"store": {"url": "postgres://me:word@db/shoal"}}}, "url"),
    ({"config": {"store": {"password": "word"}}}, "password"),
    ({"edge": {"replicas": 0}}, "replicas"),
    ({"edge": {"replicas": "three"}}, "replicas"),
    ({"edge": {"service": {"port": 70000}}}, "port"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"volume": {"size": "20 gigabytes"}}, "size"),
]

# What a schema cannot see: settings that contradict each other.
CONTRADICTIONS = [
    ({key: {"enabled": False} for key in ROLES}, "no service is enabled"),
    ({"config": {"admin": {"listen": "127.0.0.1:9221"}}}, "config.admin.listen"),
    ({"config": {"edge": {"listen": "0.0.0.0:9221"}}}, "has the port of config.admin.listen"),
    ({"edge": {"replicas": 2}, "config": {"edge": {"replicas": False}}}, "config.edge.replicas"),
    ({"config": {"store": {"url": "postgres://me@db/shoal"}}}, "database.existingSecret"),
    ({"database": {"existingSecret": "word"}}, "config.store.url"),
    ({"edge": {"secrets": {"tls": ""}}}, "edge.secrets.tls"),
    ({"edge": {"secrets": {"credentials": ""}}}, "edge.secrets.credentials"),
    ({"config": {"edge": {"security": {"profile": "mutual-tls"}}}}, "edge.secrets.clientCa"),
    ({"config": {"edge": {"security": {"profile": None}}}}, "config.edge.security.profile"),
    ({"telemetryIngest": {"replicas": 2}}, "telemetryIngest: more than one replica"),
    ({"telemetryIngest": {"autoscaling": {"enabled": True}}}, "telemetryIngest: more than one replica"),
    ({"telemetryIngest": {"sharesPartitions": True, "autoscaling": {"enabled": True, "maxReplicas": 25}}}, "config.log.partitions"),
    ({"edge": {"autoscaling": {"enabled": True, "minReplicas": 9}}}, "minReplicas 9 is above maxReplicas 8"),
    ({"config": {"web": None}}, "config.web.listen"),
]


@pytest.mark.parametrize(("wrong", "named"), SLIPS + CONTRADICTIONS, ids=lambda case: case if isinstance(case, str) else "")
def test_nonsense_is_refused_by_name(wrong, named):
    refused = template_of(wrong)
    assert refused.returncode != 0 and not refused.stdout, yaml.safe_dump(wrong)
    assert named in refused.stderr, refused.stderr


def test_the_values_that_are_refused_render_without_the_slip():
    assert template_of({}).returncode == 0


def schema():
    return json.loads((CHART / "values.schema.json").read_text())


def keys(tree, path=()):
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from keys(value, (*path, key))


# Below these the keys are those of the program, of Kubernetes labels, of annotations.
FREE = ("config", "annotations", "podAnnotations", "labels", "nodeSelector", "matchLabels")


def test_a_slip_in_any_key_of_the_values_is_refused():
    check = jsonschema.Draft7Validator(schema())
    base = yaml.safe_load((CHART / "values.yaml").read_text())
    assert not list(check.iter_errors(base))
    tried = 0
    for path in keys(base):
        if any(step in FREE for step in path[:-1]):
            continue
        slipped = copy.deepcopy(base)
        at = slipped
        for step in path[:-1]:
            at = at[step]
        at[path[-1] + "s"] = at.pop(path[-1])
        assert list(check.iter_errors(slipped)), ".".join(path)
        tried += 1
    assert tried > 100


def test_every_object_of_the_schema_is_closed_but_for_settings():
    def walk(node, path):
        if isinstance(node, dict):
            if node.get("type") == "object" and path[:2] != ("properties", "config") and path not in (("properties", "global"), ("definitions", "section")):
                assert "additionalProperties" in node and node["additionalProperties"] is not True, path
            for key, value in node.items():
                walk(value, (*path, key))
        elif isinstance(node, list):
            for index, value in enumerate(node):
                walk(value, (*path, index))

    walk(schema(), ())


def test_the_readme_has_every_value_with_its_default():
    _, _, table = (CHART / "README.md").read_text().partition("\n## Values\n")
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.*?) \|", table, re.M))
    base = yaml.safe_load((CHART / "values.yaml").read_text())
    leaves = {}
    for path in keys(base):
        at = base
        for step in path:
            at = at[step]
        if any(step in FREE or step == "resources" for step in path[:-1]) and path[0] != "config":
            continue
        if not isinstance(at, dict) or not at or path[-1] in FREE[1:] or path[-1] == "resources":
            leaves[".".join(path)] = at
    # Six services alike share rows: `SERVICE.key`.
    shared = {f"SERVICE.{k}" for k in ("enabled", "replicas", "resources", "podAnnotations", "nodeSelector", "tolerations", "priorityClassName")}
    for name, default in leaves.items():
        head, _, tail = name.partition(".")
        row = f"SERVICE.{tail}" if head in (*ROLES, "migrate", "export") and f"SERVICE.{tail}" in shared else name
        assert row in rows, f"README.md has no row for {name}"
        if row == name and isinstance(default, (str, int, bool)):
            assert f"`{json.dumps(default) if not isinstance(default, str) else default}`" == rows[row] or (default == "" and rows[row] == ""), f"README.md: default of {name}"
    known = set(leaves) | shared
    assert set(rows) <= known, f"README.md describes {set(rows) - known}"


def test_the_version_is_the_workspace_s():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    workspace = tomllib.loads((CHART / "../../Cargo.toml").read_text())
    assert chart["appVersion"] == workspace["workspace"]["package"]["version"]


# helm 3 shows notes only with a cluster at hand: here they become an object.
NOTES_AS_OBJECT = """apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data:
  text: | {{- tpl (.Files.Get "NOTES.txt") . | nindent 4 }}
"""


@each_file
def test_notes_say_what_runs_and_where_stations_connect(file, tmp_path):
    chart = tmp_path / "shoal"
    shutil.copytree(CHART, chart)
    (chart / "templates/NOTES.txt").rename(chart / "NOTES.txt")
    (chart / "templates/notes.yaml").write_text(NOTES_AS_OBJECT)
    made = helm("template", "shoal", chart, "--values", file, "--show-only", "templates/notes.yaml")
    assert made.returncode == 0, made.stderr
    text = yaml.safe_load(made.stdout)["data"]["text"]
    assert "wss://HOST:443/ocpp/STATION" in text
    for key, role in ROLES.items():
        assert values(file)[key]["enabled"] == bool(re.search(rf"^  {role}\b", text, re.M)), role
    assert ("SQLite" in text) != ("with the password in the secret shoal-postgres" in text)
