"""Judges Kubernetes manifests offline: schemas, references between objects, Restricted Pod Security.

    judge.py check FILE...   prints one problem a line, exits 1 when there is one
    judge.py json FILE...    prints all objects as one JSON list
    judge.py versions        prints the minor versions whose schemas are used
"""

import json
import sys
from collections import Counter

import jsonschema
import yaml
from kubernetes_validate import utils
from referencing import Registry, Resource

NEWEST = 5

# Kinds that are no part of Kubernetes; every field we use, so that a typo is refused.
PORT_NAME = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$"}
CUSTOM = {
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {}, "kind": {}, "metadata": {"type": "object"},
            "spec": {
                "type": "object", "additionalProperties": False, "required": ["selector", "podMetricsEndpoints"],
                "properties": {
                    "selector": {
                        "type": "object", "additionalProperties": False,
                        "properties": {"matchLabels": {"type": "object"}, "matchExpressions": {"type": "array"}},
                    },
                    "podMetricsEndpoints": {
                        "type": "array", "minItems": 1,
                        "items": {
                            "type": "object", "additionalProperties": False, "required": ["port"],
                            "properties": {
                                "port": PORT_NAME, "path": {"type": "string", "pattern": "^/"},
                                "interval": {"type": "string"}, "honorLabels": {"type": "boolean"},
                            },
                        },
                    },
                },
            },
        },
    },
}


class Schemas:
    """The strict schemas of one minor version, each read once."""

    def __init__(self, version):
        self.version = version
        self.folder = f"kubernetes-json-schema/v{version}-local-strict"
        definitions = Resource.from_contents(self.read("_definitions"))
        self.definitions = definitions @ Registry()
        self.validators = {}

    def read(self, name):
        return utils.schema_contents(f"{self.folder}/{name}.json", self.version)

    def validator(self, kind, api_version):
        key = (api_version, kind)
        if key not in self.validators:
            if key in CUSTOM:
                schema, registry = CUSTOM[key], Registry()
            else:
                group, _, version = api_version.rpartition("/")
                name = "-".join(filter(None, [kind.lower(), group.split(".")[0], version]))
                schema = self.read(name)
                registry = Resource.from_contents(schema) @ self.definitions
            self.validators[key] = jsonschema.Draft202012Validator(schema, registry=registry)
        return self.validators[key]

    def problems(self, thing):
        try:
            validator = self.validator(thing["kind"], thing["apiVersion"])
        except FileNotFoundError:
            yield f"Kubernetes {self.version} has no {thing['apiVersion']} {thing['kind']}"
            return
        for error in validator.iter_errors(thing):
            place = ".".join(map(str, error.absolute_path)) or "the object"
            yield f"Kubernetes {self.version}: {place}: {error.message[:300]}"


def newest_versions():
    versions = list(dict.fromkeys(utils.all_versions()))
    return versions[-NEWEST:] if len(versions) >= NEWEST else []


def named(thing):
    return f"{thing.get('kind')}/{thing.get('metadata', {}).get('name')}"


def pod_of(thing):
    """Labels and spec of the Pods that an object makes, or None."""
    kind, spec = thing.get("kind"), thing.get("spec", {})
    if kind == "Pod":
        return thing["metadata"].get("labels", {}), spec
    if kind == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    if "template" in spec and kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"):
        return spec["template"].get("metadata", {}).get("labels", {}), spec["template"]["spec"]
    return None


def containers(spec):
    return spec.get("initContainers", []) + spec.get("containers", [])


# --- Restricted Pod Security Standard ---

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
SELINUX = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def restricted(spec):
    """What the Restricted profile refuses in a Pod."""
    pod = spec.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set"
    for volume in spec.get("volumes", []):
        for kind in set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is of the kind {kind}"
    yield from restricted_context("the Pod", pod)
    for sysctl in pod.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is not safe"
    for container in containers(spec) + spec.get("ephemeralContainers", []):
        name, own = f"container {container['name']}", container.get("securityContext", {})
        yield from restricted_context(name, own)
        if own.get("privileged"):
            yield f"{name} is privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name} does not set allowPrivilegeEscalation: false"
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []):
            yield f"{name} does not drop ALL capabilities"
        for added in set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{name} adds the capability {added}"
        if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
            yield f"{name} does not set runAsNonRoot: true"
        if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name} has no seccompProfile"
        for port in container.get("ports", []):
            if port.get("hostPort"):
                yield f"{name} takes the host's port {port['hostPort']}"
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            for action in ("httpGet", "tcpSocket"):
                if container.get(probe, {}).get(action, {}).get("host"):
                    yield f"{name}: {probe} names a host"


def restricted_context(name, context):
    if context.get("runAsUser") == 0:
        yield f"{name} runs as user 0"
    if context.get("runAsNonRoot") is False:
        yield f"{name} sets runAsNonRoot: false"
    if context.get("procMount", "Default") != "Default":
        yield f"{name} unmasks /proc"
    if context.get("seccompProfile", {}).get("type") == "Unconfined":
        yield f"{name} has the seccomp profile Unconfined"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield f"{name} has the AppArmor profile Unconfined"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield f"{name} sets SELinux options"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{name} is a host process"


def ours(container):
    """Our own containers keep more than the profile asks."""
    context, limits = container.get("securityContext", {}), container.get("resources", {}).get("limits", {})
    if context.get("readOnlyRootFilesystem") is not True:
        yield f"container {container['name']} may write to its root file system"
    if "memory" not in limits:
        yield f"container {container['name']} has no memory limit"


# --- references between objects, where schemas see only text ---

def references(spec, objects):
    """Names in a Pod that nothing answers to."""
    volumes = [volume["name"] for volume in spec.get("volumes", [])]
    volumes += spec.get("_claims", [])
    yield from twice("volume", volumes)
    yield from twice("container", [container["name"] for container in containers(spec)])
    ports = [port for container in containers(spec) for port in container.get("ports", [])]
    yield from twice("port name", [port["name"] for port in ports if "name" in port])
    yield from twice("port", [(port["containerPort"], port.get("protocol", "TCP")) for port in ports])
    for volume in spec.get("volumes", []):
        for kind, field in (("configMap", "name"), ("secret", "secretName")):
            source = volume.get(kind)
            if source and not source.get("optional") and (kind.lower(), source.get(field)) not in objects:
                yield f"volume {volume['name']}: no {kind} {source.get(field)}"
    for container in containers(spec):
        yield from container_references(container, volumes, objects)


def container_references(container, volumes, objects):
    name = f"container {container['name']}"
    mounts = container.get("volumeMounts", [])
    yield from twice(f"{name}: mountPath", [mount["mountPath"] for mount in mounts])
    for mount in mounts:
        if mount["name"] not in volumes:
            yield f"{name}: no volume {mount['name']}"
    names = [port.get("name") for port in container.get("ports", [])]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        for action in ("httpGet", "tcpSocket"):
            port = container.get(probe, {}).get(action, {}).get("port")
            if isinstance(port, str) and port not in names:
                yield f"{name}: {probe}: no port {port}"
    for source in container.get("envFrom", []):
        for kind in ("configMapRef", "secretRef"):
            reference = source.get(kind)
            if reference and not reference.get("optional") and (kind[:-3].lower(), reference["name"]) not in objects:
                yield f"{name}: no {kind[:-3]} {reference['name']}"
    for variable in container.get("env", []):
        for kind in ("configMapKeyRef", "secretKeyRef"):
            reference = variable.get("valueFrom", {}).get(kind)
            keys = reference and objects.get((kind[:-6].lower(), reference["name"]))
            if reference and not reference.get("optional") and reference["key"] not in (keys or {}):
                yield f"{name}: {variable['name']}: no {kind[:-6]} {reference['name']} with {reference['key']}"


def selectors(thing, pods):
    """Selectors that select no Pod of the same file, and ports that no such Pod has."""
    spec = thing.get("spec", {})
    kind = thing["kind"]
    if kind == "Service" and spec.get("selector"):
        chosen = [pod for labels, pod in pods if spec["selector"].items() <= labels.items()]
        if not chosen:
            yield "the selector matches no Pod"
        for port in spec.get("ports", []):
            target = port.get("targetPort", port["port"])
            have = [p.get("name" if isinstance(target, str) else "containerPort")
                    for pod in chosen for c in containers(pod) for p in c.get("ports", [])]
            if chosen and target not in have and not (isinstance(target, int) and not have):
                yield f"no Pod has the port {target}"
    matched = {"NetworkPolicy": "podSelector", "PodDisruptionBudget": "selector", "PodMonitor": "selector"}.get(kind)
    wanted = spec.get(matched, {}).get("matchLabels", {}) if matched else {}
    if wanted and not any(wanted.items() <= labels.items() for labels, _ in pods):
        yield "the selector matches no Pod"
    if kind in ("Deployment", "StatefulSet", "DaemonSet"):
        labels = spec.get("template", {}).get("metadata", {}).get("labels", {})
        if not spec.get("selector", {}).get("matchLabels", {}).items() <= labels.items():
            yield "the selector does not match the template"


def twice(what, names):
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{what} {name} is there {count} times"


def problems(things, versions):
    objects = {(t["kind"].lower(), t["metadata"]["name"]): {**t.get("data", {}), **t.get("stringData", {})}
               for t in things if t.get("kind") in ("ConfigMap", "Secret")}
    schemas = [Schemas(version) for version in versions]
    wrong = False
    for thing in things:
        for schema in schemas:
            for problem in schema.problems(thing):
                wrong = True
                yield f"{named(thing)}: {problem}"
    if wrong:
        return
    yield from twice("object", [named(thing) for thing in things])
    pods = [pod for pod in map(pod_of, things) if pod]
    for thing in things:
        pod = pod_of(thing)
        if pod:
            spec = dict(pod[1])
            spec["_claims"] = [c["metadata"]["name"] for c in thing["spec"].get("volumeClaimTemplates", [])]
            for problem in [*restricted(spec), *references(spec, objects)]:
                yield f"{named(thing)}: {problem}"
            for container in containers(spec):
                if "pattern-containers/" in container["image"]:
                    for problem in ours(container):
                        yield f"{named(thing)}: {problem}"
        for problem in selectors(thing, pods):
            yield f"{named(thing)}: {problem}"


def read(path):
    with open(path, encoding="utf-8") as file:
        return [thing for thing in yaml.safe_load_all(file) if thing]


def main():
    command, files = sys.argv[1], sys.argv[2:]
    if command == "versions":
        print(*newest_versions())
    elif command == "json":
        print(json.dumps([thing for path in files for thing in read(path)]))
    elif command == "check":
        versions = newest_versions()
        found = [f"{path}: {problem}" for path in files for problem in problems(read(path), versions)]
        if not versions:
            found.append(f"the package has schemas of fewer than {NEWEST} versions")
        for problem in found:
            print(problem)
        sys.exit(1 if found else 0)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
