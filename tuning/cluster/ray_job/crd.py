"""Keys of a RayJob: those of KubeRay 1.7 (docs/reference/api.md of ray-project/kuberay), and of pods in Kubernetes 1.34.

Pods are restricted to the keys that a file for a sweep may need; parts below them are left to the API server.
"""

from typing import Any

from tuning.cluster.ray_job.shape import Choice, Quantities, Shape, Texts


def _all(kind: Any, names: str) -> dict[str, Shape]:
    return dict.fromkeys(names.split(), kind)


METADATA: Shape = {
    **_all("text", "name generateName namespace"),
    "labels": Texts(),
    "annotations": Texts(),
    "finalizers": ["text"],
    "ownerReferences": "list",
}
_KEY = {**_all("text", "name key"), "optional": "flag"}
ENVIRONMENT: Shape = [
    {
        **_all("text", "name value"),
        "valueFrom": {
            "secretKeyRef": _KEY,
            "configMapKeyRef": _KEY,
            "fieldRef": _all("text", "apiVersion fieldPath"),
            "resourceFieldRef": "open",
            "fileKeyRef": "open",
        },
    }
]
RESOURCES: Shape = {"limits": Quantities(), "requests": Quantities(), "claims": "list"}
MOUNTS: Shape = [{**_all("text", "name mountPath subPath subPathExpr mountPropagation recursiveReadOnly"), "readOnly": "flag"}]
VOLUMES: Shape = [
    {
        "name": "text",
        "persistentVolumeClaim": {"claimName": "text", "readOnly": "flag"},
        "nfs": {**_all("text", "server path"), "readOnly": "flag"},
        "emptyDir": {"medium": "text", "sizeLimit": "quantity"},
        **_all("open", "configMap csi downwardAPI ephemeral fc flexVolume hostPath image iscsi projected secret cephfs glusterfs"),
    }
]
CONTAINER: Shape = {
    **_all("text", "name image workingDir terminationMessagePath terminationMessagePolicy restartPolicy"),
    "imagePullPolicy": Choice(("Always", "IfNotPresent", "Never")),
    **_all(["text"], "command args"),
    "env": ENVIRONMENT,
    "resources": RESOURCES,
    "volumeMounts": MOUNTS,
    **_all("list", "ports envFrom volumeDevices resizePolicy restartPolicyRules"),
    **_all("open", "livenessProbe readinessProbe startupProbe lifecycle securityContext"),
    **_all("flag", "stdin stdinOnce tty"),
}
POD: Shape = {
    "metadata": METADATA,
    "spec": {
        "containers": [CONTAINER],
        "initContainers": [CONTAINER],
        "volumes": VOLUMES,
        "nodeSelector": Texts(),
        "restartPolicy": Choice(("Always", "OnFailure", "Never")),
        **_all("list", "tolerations imagePullSecrets topologySpreadConstraints hostAliases readinessGates resourceClaims"),
        **_all("list", "schedulingGates ephemeralContainers"),
        **_all("open", "affinity securityContext dnsConfig os overhead resources workloadRef"),
        **_all("whole", "terminationGracePeriodSeconds activeDeadlineSeconds priority"),
        **_all("flag", "hostNetwork hostPID hostIPC hostUsers automountServiceAccountToken enableServiceLinks setHostnameAsFQDN"),
        **_all("flag", "shareProcessNamespace"),
        **_all("text", "serviceAccountName serviceAccount priorityClassName runtimeClassName schedulerName nodeName dnsPolicy"),
        **_all("text", "hostname subdomain preemptionPolicy hostnameOverride"),
    },
}
_GROUP: dict[str, Shape] = {"rayStartParams": Texts(), "template": POD, "resources": Texts(), "labels": Texts()}
HEAD_GROUP: Shape = {
    **_GROUP,
    "serviceType": Choice(("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")),
    "enableIngress": "flag",
    "headService": "open",
    "ingressOptions": "open",
}
WORKER_GROUP: Shape = {
    **_GROUP,
    "groupName": "text",
    **_all("whole", "replicas minReplicas maxReplicas numOfHosts idleTimeoutSeconds priority"),
    "suspend": "flag",
    "scaleStrategy": {"workersToDelete": ["text"]},
}
AUTOSCALER: Shape = {
    "resources": RESOURCES,
    "image": "text",
    "imagePullPolicy": Choice(("Always", "IfNotPresent", "Never")),
    "securityContext": "open",
    "idleTimeoutSeconds": "whole",
    "upscalingMode": Choice(("Default", "Aggressive", "Conservative")),
    "version": Choice(("v1", "v2")),
    "env": ENVIRONMENT,
    "envFrom": "list",
    "volumeMounts": MOUNTS,
    **_all(["text"], "command args"),
}
RAY_CLUSTER: Shape = {
    "rayVersion": "text",
    "authOptions": {"mode": Choice(("token", "disabled")), "secretName": "text", "enableK8sTokenAuth": "flag"},
    "enableInTreeAutoscaling": "flag",
    "autoscalerOptions": AUTOSCALER,
    "headGroupSpec": HEAD_GROUP,
    "workerGroupSpecs": [WORKER_GROUP],
    "headServiceAnnotations": Texts(),
    "suspend": "flag",
    "managedBy": Choice(("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")),
    "upgradeStrategy": {"type": Choice(("Recreate", "None"))},
    **_all("open", "gcsFaultToleranceOptions historyServerOptions networkPolicy"),
    "tlsOptions": {"enabled": "flag"},
}
RAY_JOB: Shape = {
    **_all("text", "apiVersion kind"),
    "metadata": METADATA,
    "status": "open",
    "spec": {
        "entrypoint": "text",
        "submissionMode": Choice(("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")),
        "runtimeEnvYAML": "text",
        "rayClusterSpec": RAY_CLUSTER,
        **_all("whole", "backoffLimit activeDeadlineSeconds ttlSecondsAfterFinished preRunningDeadlineSeconds"),
        **_all("flag", "shutdownAfterJobFinishes suspend"),
        **_all("number", "entrypointNumCpus entrypointNumGpus"),
        **_all("text", "entrypointResources jobId"),
        **_all(Texts(), "metadata clusterSelector"),
        "managedBy": Choice(("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")),
        "submitterPodTemplate": POD,
        "submitterConfig": {"backoffLimit": "whole"},
        "deletionStrategy": "open",
    },
}
