"""The repository's RayJob passes; every mistake in it is told in one line, most of them although the API server accepts them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.tuning.cluster_edits import RAY, ROOT, Edit, both, check_cluster_file, drop, put, refusal, write

pytestmark = pytest.mark.slow  # what `ray start` takes is read from Ray, whose command line takes seconds to import
JOB = ROOT / "cluster" / "rayjob.yaml"
Job = dict[str, Any]
CLUSTER = "spec/rayClusterSpec"
HEAD, WORKER = f"{CLUSTER}/headGroupSpec", f"{CLUSTER}/workerGroupSpecs/0"
HEADS, WORKERS = (f"{group}/template/spec/containers/0" for group in (HEAD, WORKER))
THERE = "spec.rayClusterSpec.workerGroupSpecs.0"
IMAGE = f"registry.example.org/cpsc-tune:{RAY}-py312-gpu"


def entrypoint(old: str, new: str) -> Edit:
    """Replace text in the entrypoint; it must be there."""

    def edit(job: Job) -> None:
        assert old in job["spec"]["entrypoint"]
        job["spec"]["entrypoint"] = job["spec"]["entrypoint"].replace(old, new)

    return edit


def environment(name: str, value: str) -> Edit:
    return put(f"{WORKERS}/env", [{"name": name, "value": value}])


def images(head: str, worker: str) -> Edit:
    return both(put(f"{HEADS}/image", head), put(f"{WORKERS}/image", worker))


def limits(container: str, gpus: float) -> Edit:
    return put(f"{container}/resources/limits", {"cpu": 4, "memory": "16Gi", "nvidia.com/gpu": gpus})


def stopping(text: str) -> Edit:
    return put("spec/runtimeEnvYAML", text)


def in_a_bucket(job: Job) -> None:
    for group in (job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]):
        del group["template"]["spec"]["volumes"], group["template"]["spec"]["containers"][0]["volumeMounts"]
    job["spec"]["entrypoint"] = (
        job["spec"]["entrypoint"]
        .replace("storage=/mnt/runs", "storage=s3://bucket/cpsc")
        .replace("--storage /mnt/runs", "--storage s3://bucket/cpsc")
    )


@pytest.fixture
def job() -> Job:
    """The repository's file as content; JSON's way, so that an edit of what an alias shares changes one place."""
    loaded = yaml.safe_load(JOB.read_text(encoding="utf-8"))
    for group in (loaded["spec"]["rayClusterSpec"]["headGroupSpec"], *loaded["spec"]["rayClusterSpec"]["workerGroupSpecs"]):
        group["template"] = yaml.safe_load(yaml.safe_dump(group["template"]))
    assert isinstance(loaded, dict)
    return loaded


def test_the_file_of_the_repository_passes_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    assert check_cluster_file(JOB) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "edit",
    [
        in_a_bucket,
        images(IMAGE, IMAGE),
        images(f"{IMAGE}@sha256:0", IMAGE),
        put(f"{WORKER}/rayStartParams", {"num-gpus": "1", "num-cpus": "4", "object-store-memory": "1000000000"}),
        put(f"{WORKERS}/resources/limits/cpu", "3500m"),
        both(put(f"{WORKER}/replicas", 2), put(f"{CLUSTER}/enableInTreeAutoscaling", False)),
        put(f"{HEAD}/serviceType", "ClusterIP"),
        put("spec/activeDeadlineSeconds", 86400),
        put("spec/suspend", None),
        put(f"{CLUSTER}/authOptions/secretName", "my-token"),
        put(f"{WORKER}/template/spec/tolerations", [{"key": "nvidia.com/gpu", "operator": "Exists"}]),
        put(f"{WORKER}/template/spec/nodeSelector", {"cloud.google.com/gke-spot": "true"}),
        entrypoint("search.max_concurrent=8", "search.max_concurrent=8 > /tmp/driver.log 2>&1"),
    ],
)
def test_other_ways_to_write_the_same_pass(job: Job, tmp_path: Path, edit: Edit) -> None:
    edit(job)
    assert check_cluster_file(write(tmp_path, job)) == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("apiVersion", "ray.io/v1alpha1"), "apiVersion: must be ray.io/v1, got 'ray.io/v1alpha1'"),
        (drop("apiVersion"), "apiVersion: must be ray.io/v1, got None"),
        (put("kind", "RayCluster"), "kind: must be RayJob, which runs a command and ends, got 'RayCluster'"),
        (put("kind", "Rayjob"), "kind: must be RayJob, which runs a command and ends, got 'Rayjob', did you mean RayJob?"),
        (put("specs", {}), "specs: unknown key, did you mean spec?"),
        (put("spec/backofLimit", 3), "spec.backofLimit: unknown key, did you mean backoffLimit?"),
        (put("spec/submissionmode", "HTTPMode"), "spec.submissionmode: unknown key, did you mean submissionMode?"),
        (put(f"{CLUSTER}/workerGroupSpec", []), "spec.rayClusterSpec.workerGroupSpec: unknown key, did you mean workerGroupSpecs?"),
        (put(f"{WORKER}/minReplica", 0), f"{THERE}.minReplica: unknown key, did you mean minReplicas?"),
        (put(f"{WORKER}/template/spec/container", []), f"{THERE}.template.spec.container: unknown key, did you mean containers?"),
        (
            put(f"{WORKERS}/volumeMount", []),
            f"{THERE}.template.spec.containers.0.volumeMount: unknown key, did you mean volumeMounts?",
        ),
        (
            put(f"{WORKERS}/resources/limit", {}),
            f"{THERE}.template.spec.containers.0.resources.limit: unknown key, did you mean limits?",
        ),
        (
            put(f"{HEADS}/env/0/valueFrom/secretRef", {}),
            "spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.env.0.valueFrom.secretRef: unknown key, did you mean",
        ),
        (put("spec/backoffLimit", "3"), "spec.backoffLimit: must be a whole number, got '3'"),
        (put("spec/backoffLimit", True), "spec.backoffLimit: must be a whole number, got True"),
        (put("spec/entrypoint", ["cpsc-tune"]), "spec.entrypoint: must be text, got ['cpsc-tune']"),
        (put("spec/shutdownAfterJobFinishes", "yes"), "spec.shutdownAfterJobFinishes: must be true or false, got 'yes'"),
        (
            put("spec/submissionMode", "HttpMode"),
            "spec.submissionMode: must be one of K8sJobMode, HTTPMode, SidecarMode, Interactive",
        ),
        (
            put(f"{WORKER}/rayStartParams", {"num-gpus": 1}),
            f"{THERE}.rayStartParams.num-gpus: must be text, write it in quotes, got 1",
        ),
        (put(f"{CLUSTER}/workerGroupSpecs", {}), "spec.rayClusterSpec.workerGroupSpecs: must be a list, got {}"),
        (put(f"{CLUSTER}/workerGroupSpecs", [None]), "spec.rayClusterSpec.workerGroupSpecs.0: must be a mapping, got None"),
        (
            put("metadata/name", "CPSC_digits"),
            "metadata.name: must be lower-case letters, digits and '-', a letter first, at most 47",
        ),
        (put("metadata/name", "a" * 48), "a letter first, at most 47, got 'aaaa"),
        (drop("spec/entrypoint"), "spec.entrypoint: must be given"),
        (drop("spec/rayClusterSpec"), "spec.rayClusterSpec: must be given"),
        (drop("spec"), "spec.entrypoint: must be given"),
        (
            put("spec/submissionMode", "InteractiveMode"),
            "spec.submissionMode: must be HTTPMode, since InteractiveMode does not submit the entrypoint",
        ),
        (
            drop("spec/submissionMode"),
            "spec.submissionMode: must be HTTPMode: in K8sJobMode the submitter's shell reads the entrypoint, which contains ';'",
        ),
        (drop("spec/backoffLimit"), "spec.backoffLimit: must be >= 1, or the sweep ends with the head's pod, got 0"),
        (drop("spec/shutdownAfterJobFinishes"), "spec.shutdownAfterJobFinishes: must be true, or the GPUs stay reserved when"),
        (drop("spec/runtimeEnvYAML"), "env_vars.RAY_JOB_STOP_SIGNAL must be SIGINT, to end the sweep cleanly, got nothing"),
        (
            stopping("env_vars: {RAY_JOB_STOP_SIGNAL: SIGINT}"),
            "env_vars.RAY_JOB_STOP_WAIT_TIME_S must be >= 60, in quotes, because nothing",
        ),
        (
            stopping("env_vars: {RAY_JOB_STOP_SIGNAL: SIGINT, RAY_JOB_STOP_WAIT_TIME_S: 120}"),
            "must be >= 60, in quotes, because nothing is saved within Ray's default of 3 s, got 120",
        ),
        (stopping("env_vars: ["), "spec.runtimeEnvYAML: line 1 not valid YAML"),
        (
            stopping("env_vars: {AWS_SECRET_ACCESS_KEY: hunter2}"),
            "line 1: holds a secret in plain text, which the job's page shows",
        ),
        (
            drop(f"{CLUSTER}/authOptions"),
            "spec.rayClusterSpec.authOptions.mode: must be token, or every pod of the Kubernetes cluster can run anything",
        ),
        (put(f"{CLUSTER}/authOptions/mode", "disabled"), "can run anything, got disabled"),
        (
            put(f"{CLUSTER}/authOptions/enableK8sTokenAuth", True),
            "authOptions.enableK8sTokenAuth: must be left out, since KubeRay supports it only",
        ),
        (
            put(f"{CLUSTER}/rayVersion", "2.59.0"),
            f"spec.rayClusterSpec.rayVersion: must be {RAY}, the version on this machine, got 2.59.0",
        ),
        (drop(f"{CLUSTER}/rayVersion"), f"spec.rayClusterSpec.rayVersion: must be {RAY}, the version on this machine, got nothing"),
        (
            put(f"{CLUSTER}/workerGroupSpecs", []),
            "spec.rayClusterSpec.workerGroupSpecs: must have a group, since the head takes no trials",
        ),
        (drop(f"{WORKER}/template"), f"{THERE}.template.spec.containers: must hold the container that Ray runs in"),
        (
            put(f"{WORKERS}/image", "rayproject/ray:latest"),
            f"image: must have Ray {RAY}, the version on this machine, in its tag, as in {RAY}-py312-gpu, got rayproject",
        ),
        (
            put(f"{WORKERS}/image", "registry.example.org:5000/cpsc-tune"),
            f"image: must have Ray {RAY}, the version on this machine, in its tag",
        ),
        (put(f"{HEADS}/image", f"cpsc-tune:{RAY}"), "image: must have a Python <3.13,>=3.11 in its tag"),
        (images(IMAGE, IMAGE.replace("py312", "py310")), "image: must have a Python <3.13,>=3.11 in its tag"),
        (images(IMAGE, IMAGE.replace("py312", "py311")), "image: must have the head's Python, 3.12, as Ray requires, got"),
        (
            environment("MLFLOW_TRACKING_PASSWORD", "hunter2"),
            f"{THERE}.template.spec.containers.0.env.MLFLOW_TRACKING_PASSWORD: holds a secret in plain text, take it from a Secret",
        ),
        (environment("MLFLOW_URI", "https://me:hunter2@mlflow.example.org"), "env.MLFLOW_URI: holds a secret in plain text"),
        (environment("RAY_AUTH_TOKEN", "hunter2hunter2"), "env.RAY_AUTH_TOKEN: holds a secret in plain text"),
        (
            entrypoint("sweep digits", "sweep digits --set tracking.uri=https://me:hunter2@x"),
            "spec.entrypoint: line 4: holds a secret",
        ),
        (
            put(f"{WORKERS}/volumeMounts/0/name", "run"),
            "volumeMounts: must name a volume of the pod, runs, and a mountPath, got {'mountPath': '/mnt/runs', 'name': 'run'}",
        ),
        (drop(f"{WORKERS}/volumeMounts/0/mountPath"), "volumeMounts: must name a volume of the pod, runs, and a mountPath"),
        (
            put(f"{HEAD}/serviceType", "LoadBalancer"),
            "headGroupSpec.serviceType: must be ClusterIP, open the dashboard with kubectl",
        ),
        (put(f"{HEAD}/enableIngress", True), "headGroupSpec.enableIngress: must be left out, open the dashboard with kubectl"),
        (put(f"{WORKER}/template/spec/restartPolicy", "Always"), "restartPolicy: must be Never with the autoscaler, got Always"),
        (
            drop(f"{WORKERS}/resources"),
            "resources.limits.cpu: must be given, e.g. 4, or Ray counts those of the whole machine, got",
        ),
        (
            drop(f"{HEADS}/resources/limits/memory"),
            "resources.limits.memory: must be given, e.g. 16Gi, or Ray counts that of the whole",
        ),
        (put(f"{WORKERS}/resources/limits/memory", "16 GB"), "or Ray counts that of the whole machine, got 16 GB"),
        (
            limits(WORKERS, 0.25),
            "resources.limits.nvidia.com/gpu: must be a whole number (trials share GPUs by the study's resources.gpus), got 0.25",
        ),
        (
            put(f"{WORKERS}/resources/requests", {"nvidia.com/gpu": 2}),
            "resources.requests.nvidia.com/gpu: must be the limit, 1, got 2",
        ),
        (
            put(f"{HEAD}/rayStartParams", {}),
            'headGroupSpec.rayStartParams.num-cpus: must be "0", so that the head takes no trials, got nothing',
        ),
        (put(f"{HEAD}/rayStartParams/num-gpus", "1"), "headGroupSpec: must have no GPU, since the head takes no trials"),
        (limits(HEADS, 1), "headGroupSpec: must have no GPU, since the head takes no trials"),
        (
            put(f"{WORKER}/rayStartParams", {"num-gpu": "1"}),
            f"{THERE}.rayStartParams.num-gpu: `ray start` has no such option, did you mean num-gpus?",
        ),
        (put(f"{WORKER}/rayStartParams", {"address": "head:6379"}), f"{THERE}.rayStartParams.address: KubeRay sets it itself"),
        (
            put(f"{WORKER}/rayStartParams", {"num-gpus": "4"}),
            f"{THERE}.rayStartParams.num-gpus: must be the limit of the container, 1, got 4",
        ),
        (
            put(f"{WORKER}/rayStartParams", {"num-cpus": "8"}),
            f"{THERE}.rayStartParams.num-cpus: must be the limit of the container, 4, got 8",
        ),
        (drop(f"{WORKER}/maxReplicas"), f"{THERE}.maxReplicas: must be given; KubeRay's default is 2147483647"),
        (put(f"{WORKER}/replicas", 3), f"{THERE}.replicas: must be in [minReplicas (0), maxReplicas (2)], got 3"),
        (
            drop(f"{CLUSTER}/enableInTreeAutoscaling"),
            f"{THERE}.replicas: must be >= 1 without enableInTreeAutoscaling, since none is added later, got 0",
        ),
        (
            entrypoint("cpsc-tune sweep", "cpsc-tune swep"),
            "spec.entrypoint: `cpsc-tune swep ...`: no such command 'swep', did you mean",
        ),
        (entrypoint("sweep digits --address auto", "sweep digits"), "spec.entrypoint: cpsc-tune sweep must have --address auto"),
        (entrypoint("resources.gpus=", "resources.gpu="), "resources.gpu: unknown key, did you mean"),
        (entrypoint("resume digits-cpsc", "resume digits"), "must name the launch that `sweep` begins, digits-cpsc, got digits"),
        (entrypoint("--storage /mnt/runs", "--storage /mnt/run"), "must be what `sweep` sets as storage or local"),
        (entrypoint("/mnt/runs", "runs"), "the launch's folder must be a URI or an absolute path on a volume, got runs"),
        (
            entrypoint("/mnt/runs", "/home/ray/runs"),
            "must mount a volume that outlives its pods, persistentVolumeClaim or nfs, for the folder /home/ray/runs",
        ),
        (
            put(f"{WORKER}/template/spec/volumes", [{"name": "runs", "emptyDir": {}}]),
            f"{THERE}: must mount a volume that outlives its pods, persistentVolumeClaim or nfs, for the folder /mnt/runs",
        ),
        (
            put(f"{WORKER}/template/spec/volumes/0/persistentVolumeClaim/claimName", "other"),
            f"{THERE}: must mount the same volume at /mnt/runs as the head",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(job: Job, tmp_path: Path, edit: Edit, message: str) -> None:
    edit(job)
    said = refusal(write(tmp_path, job))
    assert message in said
    assert "hunter2" not in said


def test_a_study_that_lies_on_the_cluster_is_a_doubt(job: Job, tmp_path: Path) -> None:
    entrypoint("sweep digits", "sweep /mnt/runs/my.yaml")(job)
    path = write(tmp_path, job)
    assert check_cluster_file(path) == [
        f"{path}: spec.entrypoint: the study /mnt/runs/my.yaml is not on this machine, so its settings were not checked"
    ]
