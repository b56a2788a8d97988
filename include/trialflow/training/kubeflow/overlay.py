"""Laying a role's ``podTemplate`` over the pods that Trialflow plans: what may be said there, and how it is merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trialflow.training.kubeflow.names import OWN_LABELS

if TYPE_CHECKING:
    from trialflow.messages import Problem, ProblemMaker
    from trialflow.records import JsonObject

STORAGE_VOLUME = "nni-vol"
WORK_VOLUME = "trialflow-work"
# Lists whose items are known by one of their keys; of every other list the template's stands.
_LIST_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
}
_OF_THE_ROLE = ("args", "image")


def merge(planned: Any, template: Any, key: str = "") -> Any:
    """Lay a template over what is planned: mappings key by key, the lists above item by item, the rest replaced."""
    if isinstance(planned, dict) and isinstance(template, dict):
        merged = dict(planned)
        for name, value in template.items():
            merged[name] = merge(planned[name], value, name) if name in planned else value
        return merged
    if isinstance(planned, list) and isinstance(template, list) and key in _LIST_KEYS:
        return _merge_items(planned, template, _LIST_KEYS[key])
    return template


def _merge_items(planned: list[JsonObject], template: list[JsonObject], key: str) -> list[JsonObject]:
    merged = {item[key]: item for item in planned}
    for item in template:
        name = item[key]
        merged[name] = merge(merged[name], item) if name in merged else item
    return list(merged.values())


def with_container_names(template: JsonObject, main: str) -> JsonObject:
    """The template with a name for the container that has none: it is the trial's own."""
    containers = template.get("spec", {}).get("containers")
    if not containers:
        return template
    named = [{"name": main, **container} for container in containers]
    return {**template, "spec": {**template["spec"], "containers": named}}


def check_template(template: JsonObject, path: tuple[str, ...], main: str, problem_at: ProblemMaker) -> list[Problem]:
    """What a template must not say, because Trialflow or the operator says it; the rest is the API server's to judge.

    Args:
        template: With the keys ``metadata`` and ``spec``.
        path: The template's field in the experiment file.
        main: Name of the trial's own container.
        problem_at: Makes a problem with a field of the experiment file.
    """
    labels, spec = template.get("metadata", {}).get("labels", {}), template.get("spec", {})
    problems = [
        problem_at((*path, "metadata", "labels", name), "is a label of Trialflow's own", None, "Choose another name")
        for name in sorted(OWN_LABELS & set(labels))
    ]
    if "restartPolicy" in spec:
        rule = "has no effect in a pod template: the operator overwrites it"
        remedy = "Remove it; a replica is never restarted, a lost job is submitted anew"
        problems.append(problem_at((*path, "spec", "restartPolicy"), rule, str(spec["restartPolicy"]), remedy))
    for name, item_key in _LIST_KEYS.items():
        problems += _check_items(spec, name, item_key, (*path, "spec"), problem_at)
    problems += _check_volumes(spec, path, problem_at)
    return problems + _check_main_container(spec, path, main, problem_at)


def _check_items(
    spec: JsonObject, name: str, item_key: str, path: tuple[str, ...], problem_at: ProblemMaker
) -> list[Problem]:
    if name not in spec:
        return []
    items = spec[name]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return [problem_at((*path, name), "must be a list of mappings", None, "Start each item with '- '")]
    may_be_nameless = name == "containers"
    problems = [
        problem_at((*path, name, str(index)), f"needs a {item_key}", None, f"Add {item_key}")
        for index, item in enumerate(items)
        if not may_be_nameless and not isinstance(item.get(item_key), str)
    ]
    if name in ("containers", "initContainers"):
        for index, item in enumerate(items):
            for inner in ("env", "volumeMounts"):
                problems += _check_items(item, inner, _LIST_KEYS[inner], (*path, name, str(index)), problem_at)
    return problems


def _check_volumes(spec: JsonObject, path: tuple[str, ...], problem_at: ProblemMaker) -> list[Problem]:
    volumes = spec.get("volumes")
    names = [item.get("name") for item in volumes if isinstance(item, dict)] if isinstance(volumes, list) else []
    return [
        problem_at((*path, "spec", "volumes"), f"the name {name} is taken by Trialflow", None, "Choose another name")
        for name in (STORAGE_VOLUME, WORK_VOLUME)
        if name in names
    ]


def _check_main_container(
    spec: JsonObject, path: tuple[str, ...], main: str, problem_at: ProblemMaker
) -> list[Problem]:
    containers = spec.get("containers")
    if not isinstance(containers, list):
        return []
    ours = [item for item in containers if isinstance(item, dict) and item.get("name", main) == main]
    remedy = "Write command and image in the role"
    return [
        problem_at((*path, "spec", "containers", key), "is set by the role", None, remedy)
        for item in ours
        for key in _OF_THE_ROLE
        if key in item
    ]
