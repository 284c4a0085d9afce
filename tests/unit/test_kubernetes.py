"""config/kubernetes: valid to Kubernetes, careful where it does not look, and true to what our programs read."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from config.settings import Settings
from vitals.ending import END_S

FOLDER = Path(__file__).parents[2] / "config" / "kubernetes"
OURS = {
    "init": ["init"],
    "worker": ["worker"],
    "sinks": ["sink", "all"],
    "archive": ["sink", "archive"],
    "console": ["console"],
}


def objects() -> list[dict[str, Any]]:
    """Everything in the files, before kustomize."""
    files = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
    return [one for path in files for one in yaml.safe_load_all(path.read_text())]


def workloads() -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects() if "template" in one.get("spec", {})}


def pod_of(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod of a workload, and its only container."""
    pod = workloads()[name]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


def test_the_files_are_valid_and_none_is_left_out() -> None:
    told = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert {*told["resources"]} == {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    for one in objects():
        kubernetes_validate.validate(one, "1.29", strict=True)
    assert workloads().keys() == OURS.keys()


def test_kustomize_builds_what_is_valid() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True, check=True)
    built = [*yaml.safe_load_all(done.stdout)]
    for one in built:
        kubernetes_validate.validate(one, "1.29", strict=True)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "wallet"
    pods = [one["spec"]["template"]["spec"] for one in built if "template" in one.get("spec", {})]
    (name,) = {pod["containers"][0]["envFrom"][0]["configMapRef"]["name"] for pod in pods}
    assert name != "wallet", "a change of the settings must start new pods"
    assert {pod["containers"][0]["image"] for pod in pods} == {"registry.example/wallet-ledger:1"}


@pytest.mark.parametrize("name", OURS)
def test_every_pod_has_no_more_rights_than_it_needs(name: str) -> None:
    pod, container = pod_of(name)
    assert container["args"] == OURS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]  # noqa: S108 - in a container


@pytest.mark.parametrize("name", ["worker", "sinks", "archive"])
def test_what_runs_is_asked_how_it_is_and_may_end_in_order(name: str) -> None:
    pod, container = pod_of(name)
    assert pod["terminationGracePeriodSeconds"] > END_S
    assert container["livenessProbe"]["httpGet"]["path"] == "/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["ports"] == [{"name": "http", "containerPort": int(settings()["WALLET_HTTP_PORT"])}]


def settings() -> dict[str, str]:
    lines = (FOLDER / "wallet.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def known() -> Iterator[str]:
    yield from (f"WALLET_{name.upper()}" for name in Settings.model_fields)


def test_the_settings_are_ours_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().keys() <= {*known()}
    for name, value in settings().items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None).partitions == int(settings()["WALLET_PARTITIONS"])


def test_a_workers_store_is_where_the_image_says() -> None:
    _, container = pod_of("worker")
    (claim,) = workloads()["worker"]["spec"]["volumeClaimTemplates"]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert (
        f"WALLET_STATE_DIR={mounts[claim['metadata']['name']]}"
        in (FOLDER.parents[1] / "Dockerfile").read_text()
    )


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one["spec"] for one in objects() if one["kind"] == kind}


@pytest.mark.parametrize("name", ["worker", "sinks"])
def test_the_cluster_takes_one_pod_away_at_a_time(name: str) -> None:
    budget = named("PodDisruptionBudget")[name]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == workloads()[name]["spec"]["selector"]
    assert workloads()[name]["spec"]["replicas"] > 1
    # one by one, and the next when this one is ready, is what a StatefulSet and a Deployment do unless told otherwise
    assert not {"updateStrategy", "strategy"} & workloads()[name]["spec"].keys()


def test_the_console_is_asked_whether_it_listens() -> None:
    _, container = pod_of("console")
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["tcpSocket"] == {"port": "http"}
    assert container["ports"] == [
        {"name": "http", "containerPort": Settings.model_fields["console_port"].default}
    ]


def test_the_network_policy_is_for_every_pod_and_lets_in_only_ports_that_pods_have() -> None:
    policy = named("NetworkPolicy")["wallet"]
    assert policy["podSelector"] == {}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    let_in = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    containers = [container for _, container in map(pod_of, workloads())]
    assert let_in == {port["containerPort"] for one in containers for port in one.get("ports", [])}
    assert all(rule["from"] for rule in policy["ingress"])
    out = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    servers = (settings()[name] for name in ("WALLET_KAFKA", "WALLET_POSTGRES"))
    assert {int(re.findall(r":(\d+)", address)[-1]) for address in servers} <= out
