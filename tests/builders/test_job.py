"""Test the manifest of a build's Job: which container holds the password, its rights, and values from links."""

from __future__ import annotations

import dataclasses
import json

import pytest

from pangeo_binder.builders.kube.job import KubeBuildSettings, job_manifest, job_name
from pangeo_binder.builders.kube.registry import RegistrySettings
from pangeo_binder.kube.pods import TierPods
from pangeo_binder.model import FetchKind, Repo, RepoRef

REPO = Repo(RepoRef("git", "https://example.org/org/sea", "main"), "a" * 40)
SETTINGS = KubeBuildSettings(
    namespace="builds",
    image="pangeo-binder/builder:1",
    registry=RegistrySettings("nodes.example.org", push_address="pods.example.org:5000", ask_address="b.example.org"),
    push_secret="push",
    timeout_seconds=900,
)


def pod(settings: KubeBuildSettings = SETTINGS, repo: Repo = REPO) -> dict:
    return job_manifest("abc", repo, settings)["spec"]["template"]["spec"]


def test_only_the_push_container_holds_the_password():
    spec = pod()
    (build,), (push,) = spec["initContainers"], spec["containers"]
    secrets = [volume["name"] for volume in spec["volumes"] if "secret" in volume]
    assert secrets == ["push-secret"]
    assert "push-secret" in [mount["name"] for mount in push["volumeMounts"]]
    assert "secret" not in json.dumps(build)
    assert spec["automountServiceAccountToken"] is False and "shareProcessNamespace" not in spec


def test_only_a_private_repositorys_fetch_has_its_token():
    shared = dataclasses.replace(SETTINGS, token_secret=lambda url: "org" if url == REPO.ref.url else "")
    spec = pod(shared)
    (fetch, build), (push,) = spec["initContainers"], spec["containers"]
    assert [each["secret"]["secretName"] for each in spec["volumes"] if each["name"] == "git-token"] == ["org"]
    assert "git-token" in [mount["name"] for mount in fetch["volumeMounts"]] and "--token-file" in str(fetch["args"])
    assert "token" not in json.dumps([build, push]) and "push-secret" not in json.dumps(fetch)
    fetches, builds = ({mount["name"] for mount in each["volumeMounts"]} for each in (fetch, build))
    assert fetches & builds == {"build"}
    assert fetch["securityContext"] == push["securityContext"] and "--fetched" in build["args"]
    other = dataclasses.replace(REPO, ref=RepoRef("git", "https://example.org/other", "main"))
    archive = dataclasses.replace(REPO, fetch=FetchKind.ARCHIVE, files_url="https://example.org/files")
    for repo in (other, archive):
        assert pod(shared, repo) == pod(SETTINGS, repo) and "git-token" not in json.dumps(pod(shared, repo))


def test_the_containers_share_only_the_image_and_only_build_writes_it():
    spec = pod()
    mounts = [each[0]["volumeMounts"] for each in (spec["initContainers"], spec["containers"])]
    build, push = ({mount["name"]: mount.get("readOnly", False) for mount in listed} for listed in mounts)
    assert set(build) & set(push) == {"image"}
    assert (build["image"], push["image"]) == (False, True)


def test_push_is_restricted_and_build_has_only_the_rights_it_needs():
    spec = pod()
    security = spec["initContainers"][0]["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["SETUID", "SETGID"]} and "privileged" not in security
    assert security["seccompProfile"] == security["appArmorProfile"] == {"type": "Unconfined"}
    push = spec["containers"][0]["securityContext"]
    assert push["capabilities"] == {"drop": ["ALL"]} and push["allowPrivilegeEscalation"] is False
    assert spec["securityContext"]["runAsNonRoot"] and spec["enableServiceLinks"] is False


def test_uses_the_nodes_security_profiles_if_set():
    settings = dataclasses.replace(SETTINGS, seccomp_profile="builds.json", apparmor_profile="builds")
    security = pod(settings)["initContainers"][0]["securityContext"]
    assert security["seccompProfile"] == {"type": "Localhost", "localhostProfile": "builds.json"}
    assert security["appArmorProfile"] == {"type": "Localhost", "localhostProfile": "builds"}


def test_the_pod_shares_the_nodes_users_and_runtime_unless_the_operator_chose_otherwise():
    assert not {"hostUsers", "runtimeClassName"} & pod().keys()
    isolated = pod(dataclasses.replace(SETTINGS, host_users=False, runtime_class="kata"))
    assert (isolated["hostUsers"], isolated["runtimeClassName"]) == (False, "kata")


def test_the_job_has_a_deadline_and_is_removed_after_its_end():
    spec = job_manifest("abc", REPO, SETTINGS)["spec"]
    assert (spec["activeDeadlineSeconds"], spec["backoffLimit"]) == (900, 0)
    assert spec["ttlSecondsAfterFinished"] == SETTINGS.keep_seconds > 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_values_from_a_link_are_never_options():
    url, ref = "--upload-pack=/bin/sh", "--help"
    (build,) = pod(repo=Repo(RepoRef("git", url, ref), "a" * 40))["initContainers"]
    assert build["args"] == ["build", "--ref=--help", "--", url, "a" * 40]


def test_annotations_are_bounded_and_printable():
    ref = RepoRef("git", "https://example.org/" + "x" * 5000, "m\x1b[2Jain\n")
    notes = job_manifest("abc", Repo(ref, "a" * 40), SETTINGS)["metadata"]["annotations"]
    assert len(notes["pangeo-binder/repo"]) == 1024
    assert notes["pangeo-binder/ref"] == "m?[2Jain?" and notes["pangeo-binder/commit"] == "a" * 40


def test_names_labels_and_image_reference():
    manifest = job_manifest("abc", REPO, SETTINGS)
    assert manifest["metadata"]["name"] == job_name("abc") == "build-abc"
    assert manifest["metadata"]["labels"]["pangeo-binder/build"] == "abc"
    (push,) = manifest["spec"]["template"]["spec"]["containers"]
    credentials = "--credentials=/push-secret/.dockerconfigjson"
    assert push["args"] == ["push", credentials, "--", "pods.example.org:5000/environments:abc"]


def test_a_registry_in_the_cluster_needs_no_tls_and_no_password():
    settings = dataclasses.replace(SETTINGS, push_secret="", registry=RegistrySettings("r:5000", plain_http=True))
    spec = pod(settings)
    assert spec["containers"][0]["args"] == ["push", "--plain-http", "--", "r:5000/environments:abc"]
    assert not [volume for volume in spec["volumes"] if "secret" in volume]


def test_the_operator_sets_placement_and_resources():
    tolerations = ({"key": "builds", "operator": "Exists"},)
    placed = TierPods({"pool": "builds"}, tolerations, "low")
    spec = pod(dataclasses.replace(SETTINGS, pods=placed, cpu_limit=1.5, variables={"HTTPS_PROXY": "http://p"}))
    assert (spec["nodeSelector"], spec["priorityClassName"]) == ({"pool": "builds"}, "low")
    assert spec["tolerations"] == list(tolerations)
    for container in (*spec["initContainers"], *spec["containers"]):
        assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
        assert container["resources"]["limits"]["cpu"] == "1.5"
    assert {"name": "HTTPS_PROXY", "value": "http://p"} in spec["initContainers"][0]["env"]
    assert "env" not in spec["containers"][0]


def test_refuses_an_unknown_engine():
    with pytest.raises(ValueError, match="buildah, buildkit"):
        dataclasses.replace(SETTINGS, engine="docker")


def test_an_archives_list_of_files_travels_to_the_pod_and_is_no_option():
    record = Repo(RepoRef("zenodo", "https://zenodo.org/records/1", "--help"), "1", FetchKind.ARCHIVE, "--files")
    (build,) = pod(repo=record)["initContainers"]
    options = ["--ref=--help", "--provider=zenodo", "--files-url=--files"]
    assert build["args"] == ["build", *options, "--", "https://zenodo.org/records/1", "1"]
