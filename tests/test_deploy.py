"""The units of systemd and the manifests of Kubernetes, as far as they can be checked on any machine."""

import re
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml
from celery.bin.celery import celery

import celeryconfig
from devservers.stack import ROOT
from uaharvest import __version__, settings

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
MANIFESTS = [
    manifest
    for name in KUSTOMIZATION["resources"]
    for manifest in yaml.safe_load_all((KUBERNETES / name).read_text())
]
DEPLOYMENTS = {
    manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] == "Deployment"
}
CELERY = sorted(name for name in DEPLOYMENTS if name != "uaharvest-metrics")


def of_kind(kind):
    return [manifest for manifest in MANIFESTS if manifest["kind"] == kind]


def container(name):
    [found] = DEPLOYMENTS[name]["spec"]["template"]["spec"]["containers"]
    return found


def assert_celery_knows(arguments):
    """A command of Celery exists, with its options."""
    assert arguments[:2] == ["-A", "tasks"]
    command = celery.commands[arguments[2]]
    if arguments[2] != "flower":  # which parses its options itself
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in arguments[3:] if word.startswith("-")} <= known


# systemd


def test_there_is_a_unit_for_each_process():
    assert [unit.stem for unit in UNITS] == [
        f"uaharvest-{name}" for name in ("beat", "flower", "metrics", "worker")
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_program_of_the_virtual_environment_and_is_started_again(unit):
    text = unit.read_text()
    [program] = re.findall(r"^ExecStart=/opt/uaharvest/\.venv/bin/(.+)", text, re.MULTILINE)
    name, *arguments = program.split()
    if name == "celery":
        assert_celery_knows(arguments)
    else:
        assert (name, arguments[0]) == ("python", "manage.py")
    for line in ("User=uaharvest", "Restart=always", "NoNewPrivileges=true", "ProtectSystem=strict"):
        assert f"\n{line}\n" in text


def test_the_worker_s_unit_waits_longer_than_its_soft_shutdown():
    text = (ROOT / "deploy" / "systemd" / "uaharvest-worker.service").read_text()
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(seconds) > celeryconfig.worker_soft_shutdown_timeout
    assert "Environment=REMAP_SIGTERM=SIGQUIT" in text
    assert "KillMode=mixed" in text  # SIGTERM to the main process only


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_accepts_the_units(tmp_path):
    for unit in UNITS:
        # The programs are not here; systemd looks whether they are.
        text = re.sub(r"/opt/uaharvest/\.venv/bin/\w+", "/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(text.replace("/opt/uaharvest", str(tmp_path)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# Kubernetes


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_accepts_each_manifest(manifest):
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_makes_the_same_manifests():
    done = subprocess.run(["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=True)
    made = list(yaml.safe_load_all(done.stdout))
    assert sorted(made, key=str) == sorted(MANIFESTS, key=str)


def test_each_queue_has_one_deployment():
    consumed = [
        queue
        for name in DEPLOYMENTS
        if "-worker-" in name
        for queue in container(name)["command"][container(name)["command"].index("--queues") + 1].split(",")
    ]
    assert sorted(consumed) == sorted(queue.name for queue in celeryconfig.task_queues)


def test_there_is_one_beat_even_during_a_rollout():
    beat = DEPLOYMENTS["uaharvest-beat"]["spec"]
    assert beat["replicas"] == 1
    assert beat["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("name", CELERY)
def test_a_celery_process_has_probes_that_read_its_heartbeat(name):
    [config] = of_kind("ConfigMap")
    program, *arguments = container(name)["command"]
    assert program == "celery"
    assert_celery_knows(arguments)
    for probe in ("readinessProbe", "livenessProbe"):
        [*shell, command] = container(name)[probe]["exec"]["command"]
        assert shell == ["sh", "-c"]
        assert config["data"]["HEARTBEAT_FILE"] in command


@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_a_pod_runs_as_nobody_and_cannot_change_itself(name):
    pod = DEPLOYMENTS[name]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert container(name)["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    if "-worker-" in name:
        assert pod["terminationGracePeriodSeconds"] > celeryconfig.worker_soft_shutdown_timeout


@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_a_deployment_selects_its_own_pods_and_finds_its_settings(name):
    spec = DEPLOYMENTS[name]["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert container(name)["envFrom"] == [{"configMapRef": {"name": of_kind("ConfigMap")[0]["metadata"]["name"]}}]
    [mounted] = [volume["secret"] for volume in spec["template"]["spec"]["volumes"] if "secret" in volume]
    assert mounted["secretName"] == of_kind("Secret")[0]["metadata"]["name"]


def test_the_settings_of_the_example_can_be_used(tmp_path):
    [config], [secret] = of_kind("ConfigMap"), of_kind("Secret")
    for name, value in secret["stringData"].items():
        (tmp_path / name).write_text(value)
    folder = "/run/secrets/uaharvest/"
    assert {value.removeprefix(folder) for value in config["data"].values() if value.startswith(folder)} == set(
        secret["stringData"]
    )
    environment = {name: value.replace(folder, f"{tmp_path}/") for name, value in config["data"].items()}
    loaded = settings.load(environment, tmp_path / ".env")
    loaded.require("engage_url", "opencast_password", "bucket", "queue", "es_url", "es_api_key")


def test_workers_for_useractions_are_added_while_messages_wait_for_them():
    [autoscaler] = of_kind("HorizontalPodAutoscaler")
    assert autoscaler["spec"]["scaleTargetRef"]["name"] in DEPLOYMENTS
    [metric] = autoscaler["spec"]["metrics"]
    assert metric["external"]["metric"] == {
        "name": "uaharvest_queue_messages",
        "selector": {"matchLabels": {"queue": "useractions"}},
    }


def test_the_image_is_of_this_version():
    images = {container(name)["image"] for name in DEPLOYMENTS}
    assert {image.rpartition(":")[2] for image in images} == {__version__}
    assert [image["newTag"] for image in KUSTOMIZATION["images"]] == [__version__]
    assert {image.rpartition(":")[0] for image in images} == {image["name"] for image in KUSTOMIZATION["images"]}
