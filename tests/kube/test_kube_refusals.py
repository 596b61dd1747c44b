"""The table of refusals against a real API server: each refusal is provoked, and classified from its real answer."""

from __future__ import annotations

import asyncio
import base64
import ssl
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes_asyncio.client.rest import ApiException

from pangeo_binder.kube.api import KubeApi, refusal_by, retry_temporary
from pangeo_binder.kube.pods import restricted_container, restricted_pod
from pangeo_binder.kube.refusals import Refusal, Why, refusal_in
from pangeo_binder.local.ports import server_port
from tests.stack.control_plane import ControlPlane
from tests.stack.local import until

SIZE = {"cpu": "100m", "memory": "64Mi"}
ADMISSION = "admissionregistration.k8s.io/v1"
LABEL = "refusals-test"


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[KubeApi]:
    """The API server with all rights."""
    api = KubeApi(str(control_plane.kubeconfig))
    yield api
    await api.close()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A namespace for *restricted* pods, in which pods can be created."""
    return new_namespace(control_plane)


def new_namespace(plane: ControlPlane, ready: bool = True) -> str:
    name = f"refusals-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted", LABEL: name}
    plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    if ready:
        until("the service account", lambda: plane.get("serviceaccounts", "-n", name)["items"], 30)
    return name


def a_pod(**spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "i", "resources": {"limits": SIZE}, **restricted_container()}
    return {"metadata": {"name": "p"}, "spec": {**restricted_pod(), "containers": [container], **spec}}


def a_quota(name: str, **hard: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"hard": hard}}


async def refused(request: Any) -> Refusal:
    """Return why the API server refuses `request`."""
    with pytest.raises(ApiException) as caught:
        await request
    refusal = refusal_by(caught.value)
    print(caught.value.status, caught.value.body)
    return refusal


def counted(plane: ControlPlane, namespace: str, resource: str) -> None:
    """Wait until the namespace's quota `q` counts the resource."""

    def used() -> bool:
        status: dict[str, Any] = plane.get("resourcequota", "q", "-n", namespace).get("status", {})
        return resource in status.get("used", {})

    until("the quota counts", used, 30)


async def test_a_quota_that_is_used_up(control_plane: ControlPlane, api: KubeApi, namespace: str) -> None:
    core = await api.core()
    await core.create_namespaced_resource_quota(namespace, a_quota("q", **{"pods": "0", "limits.cpu": "50m"}))
    await asyncio.to_thread(counted, control_plane, namespace, "pods")
    found = await refused(core.create_namespaced_pod(namespace, a_pod()))
    assert found == Refusal(Why.QUOTA, ("limits.cpu", "pods")) and not found.is_temporary


async def test_a_quota_that_is_not_counted_yet(control_plane: ControlPlane, api: KubeApi, namespace: str) -> None:
    """The quota controller looks for new kinds of objects every 30 s, so it does not know this one yet."""
    group, core, objects = f"{namespace}.example.org", await api.core(), await api.custom_objects()
    await asyncio.to_thread(new_kind, control_plane, group)
    await core.create_namespaced_resource_quota(namespace, a_quota("q", **{f"count/things.{group}": "100"}))
    thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"generateName": "t-"}}
    where = group, "v1", namespace, "things"
    found = await until_refused(lambda: objects.create_namespaced_custom_object(*where, thing), Why.QUOTA_NOT_COUNTED)
    assert found.is_temporary
    await asyncio.to_thread(control_plane.kubectl, "delete", "crd", f"things.{group}")


def new_kind(plane: ControlPlane, group: str) -> None:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    spec = {
        "group": group,
        "names": {"kind": "Thing", "plural": "things"},
        "scope": "Namespaced",
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    meta = {"name": f"things.{group}"}
    kind = "CustomResourceDefinition"
    plane.apply({"apiVersion": "apiextensions.k8s.io/v1", "kind": kind, "metadata": meta, "spec": spec})
    plane.kubectl("wait", "--for=condition=Established", "crd", f"things.{group}", "--timeout=60s")


async def test_a_new_namespace_lets_pods_in_after_a_moment(control_plane: ControlPlane, api: KubeApi) -> None:
    core, name = await api.core(), await asyncio.to_thread(new_namespace, control_plane, False)
    await core.create_namespaced_resource_quota(name, a_quota("q", pods="9"))
    made = await retry_temporary(lambda: core.create_namespaced_pod(name, a_pod()))
    assert made.metadata.name == "p"


async def test_a_service_account_that_does_not_exist(api: KubeApi, namespace: str) -> None:
    core = await api.core()
    found = await refused(core.create_namespaced_pod(namespace, a_pod(serviceAccountName="later")))
    assert found == Refusal(Why.NO_SERVICE_ACCOUNT) and found.is_temporary


async def test_a_namespace_that_is_being_deleted_and_one_that_is_gone(
    control_plane: ControlPlane, api: KubeApi, namespace: str
) -> None:
    core = await api.core()
    # a finalizer keeps the namespace in deletion
    kept = {"metadata": {"name": "kept", "finalizers": ["example.org/kept"]}}
    await core.create_namespaced_config_map(namespace, kept)
    await core.delete_namespace(namespace)
    assert await refused(core.create_namespaced_pod(namespace, a_pod())) == Refusal(Why.ENDING)
    patch = {"metadata": {"finalizers": None}}
    await core.patch_namespaced_config_map("kept", namespace, patch)
    wait = ("wait", "--for=delete", f"namespace/{namespace}", "--timeout=60s")
    await asyncio.to_thread(control_plane.kubectl, *wait)
    assert await refused(core.create_namespaced_pod(namespace, a_pod())) == Refusal(Why.ENDING)


async def test_a_right_that_was_not_given(control_plane: ControlPlane, namespace: str) -> None:
    config = await asyncio.to_thread(control_plane.kubeconfig_for, f"{namespace}/default")
    api = KubeApi(str(config))
    core = await api.core()
    assert await refused(core.create_namespaced_pod(namespace, a_pod())) == Refusal(Why.PERMISSION)
    assert await refused(core.create_namespace({"metadata": {"name": "more"}})) == Refusal(Why.PERMISSION)
    await api.close()


async def test_credentials_that_are_not_valid(control_plane: ControlPlane) -> None:
    api = KubeApi(str(control_plane.authority.kubeconfig(control_plane.server, "nobody", {"token": "none"})))
    assert await refused((await api.core()).list_namespace()) == Refusal(Why.PERMISSION)
    await api.close()


async def test_rules_of_other_admission_plugins(api: KubeApi, namespace: str) -> None:
    core = await api.core()
    insecure = a_pod(securityContext={})
    assert await refused(core.create_namespaced_pod(namespace, insecure)) == Refusal(Why.RULES)
    limits = [{"type": "Container", "max": {"cpu": "50m"}}]
    await core.create_namespaced_limit_range(namespace, {"metadata": {"name": "l"}, "spec": {"limits": limits}})

    async def too_large() -> Refusal:
        return await refused(core.create_namespaced_pod(namespace, a_pod()))

    assert await too_large() == Refusal(Why.RULES)
    ranked = a_pod(priorityClassName="there-is-none")
    assert await refused(core.create_namespaced_pod(namespace, ranked)) == Refusal(Why.RULES)


def only_in(namespace: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {LABEL: namespace}}}


def rule_for(resource: str) -> dict[str, Any]:
    return {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}


async def until_refused(create: Callable[[], Any], why: Why) -> Refusal:
    """Return the refusal once the admission configuration is in effect."""
    async with asyncio.timeout(60):
        while True:
            try:
                await create()
            except ApiException as error:
                print(error.status, error.body)
                if (found := refusal_by(error)).why is why:
                    return found
                raise
            await asyncio.sleep(0.3)


def config_map(core: Any, namespace: str) -> Callable[[], Any]:
    return lambda: core.create_namespaced_config_map(namespace, {"metadata": {"generateName": "c-"}})


async def test_a_policy_that_denies(control_plane: ControlPlane, api: KubeApi, namespace: str) -> None:
    meta, core = {"name": namespace}, await api.core()
    rules = {"resourceRules": [rule_for("configmaps")], **only_in(namespace)}
    spec = {"matchConstraints": rules, "validations": [{"expression": "false", "message": "exceeded quota: never"}]}
    policy = {"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicy", "metadata": meta, "spec": spec}
    binding = {**policy, "kind": "ValidatingAdmissionPolicyBinding"}
    binding["spec"] = {"policyName": namespace, "validationActions": ["Deny"]}
    await asyncio.to_thread(control_plane.apply, policy, binding)
    try:
        found = await until_refused(config_map(core, namespace), Why.DENIED)
        assert not found.is_temporary
    finally:
        kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding"
        await asyncio.to_thread(control_plane.kubectl, "delete", kinds, namespace)


@pytest.fixture
def webhook(control_plane: ControlPlane, namespace: str) -> Any:
    """Register an admission webhook for the namespace's ConfigMaps, at a given URL."""

    def register(url: str, authority: bytes) -> None:
        hook = {
            "name": "refusals.example.org",
            "clientConfig": {"url": url, "caBundle": base64.b64encode(authority).decode()},
            "rules": [rule_for("configmaps")],
            **only_in(namespace),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 5,
        }
        kind = "ValidatingWebhookConfiguration"
        made = {"apiVersion": ADMISSION, "kind": kind, "metadata": {"name": namespace}, "webhooks": [hook]}
        control_plane.apply(made)

    yield register
    control_plane.kubectl("delete", "validatingwebhookconfiguration", namespace)


async def test_a_webhook_that_cannot_be_called(
    control_plane: ControlPlane, api: KubeApi, namespace: str, webhook: Callable[[str, bytes], None]
) -> None:
    authority = control_plane.authority.certificate.read_bytes()
    await asyncio.to_thread(webhook, "https://127.0.0.1:1/", authority)
    found = await until_refused(config_map(await api.core(), namespace), Why.WEBHOOK_UNREACHABLE)
    assert found.is_temporary


async def test_a_webhook_that_denies(
    control_plane: ControlPlane, api: KubeApi, namespace: str, webhook: Callable[[str, bytes], None]
) -> None:
    own = control_plane.authority.issue("webhook", "webhooks", ("127.0.0.1", "localhost"))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(own.certificate, own.key)

    async def deny(request: web.Request) -> web.Response:
        uid = (await request.json())["request"]["uid"]
        # a text that looks like another refusal
        answer = {"uid": uid, "allowed": False, "status": {"message": "status unknown for quota", "code": 403}}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})

    app = web.Application()
    app.router.add_post("/", deny)
    runner = web.AppRunner(app)
    await runner.setup()
    port = server_port("127.0.0.1")
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    authority = control_plane.authority.certificate.read_bytes()
    await asyncio.to_thread(webhook, f"https://127.0.0.1:{port}/", authority)
    found = await until_refused(config_map(await api.core(), namespace), Why.DENIED)
    assert not found.is_temporary
    await runner.cleanup()


async def test_an_object_that_exists_has_changed_or_is_missing(api: KubeApi, namespace: str) -> None:
    core, body = await api.core(), {"metadata": {"name": "c"}}
    made = await core.create_namespaced_config_map(namespace, body)
    assert await refused(core.create_namespaced_config_map(namespace, body)) == Refusal(Why.EXISTS)
    made.data = {"a": "b"}
    await core.replace_namespaced_config_map("c", namespace, made)
    assert await refused(core.replace_namespaced_config_map("c", namespace, made)) == Refusal(Why.CONFLICT)
    assert await refused(core.read_namespaced_config_map("none", namespace)) == Refusal(Why.MISSING)


async def test_a_kind_that_the_api_server_does_not_know(api: KubeApi, namespace: str) -> None:
    objects = await api.custom_objects()
    made = objects.create_namespaced_custom_object("example.org", "v1", namespace, "things", {})
    assert await refused(made) == Refusal(Why.MISSING)


@pytest.mark.parametrize(
    "body",
    [{"metadata": {"name": "Not Valid"}}, {"metadata": {"name": "c"}, "data": {"no/key": "x"}}, {"metadata": "none"}],
)
async def test_an_object_that_is_not_valid(api: KubeApi, namespace: str, body: dict[str, Any]) -> None:
    core = await api.core()
    assert await refused(core.create_namespaced_config_map(namespace, body)) == Refusal(Why.INVALID)


async def test_two_requests_that_the_quota_counts_at_once(
    control_plane: ControlPlane, api: KubeApi, namespace: str
) -> None:
    """Every answer among many at once is a Secret or a temporary refusal, so retrying makes them all."""
    core = await api.core()
    await core.create_namespaced_resource_quota(namespace, a_quota("q", secrets="100"))
    await asyncio.to_thread(counted, control_plane, namespace, "secrets")
    names = [f"s{number}" for number in range(60)]
    creations = (
        retry_temporary(lambda name=name: core.create_namespaced_secret(namespace, {"metadata": {"name": name}}))
        for name in names
    )
    made = await asyncio.gather(*creations)
    assert [each.metadata.name for each in made] == names


async def test_a_deployment_reports_the_same_refusal(control_plane: ControlPlane, namespace: str) -> None:
    """A controller copies the API server's message into a condition of its object."""
    template = {**a_pod(serviceAccountName="later"), "metadata": {"labels": {"a": "b"}}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    meta = {"name": "d", "namespace": namespace}
    made = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
    await asyncio.to_thread(control_plane.apply, made)

    def failure() -> str:
        conditions = control_plane.get("deployment", "d", "-n", namespace).get("status", {}).get("conditions", ())
        return next((each["message"] for each in conditions if each["type"] == "ReplicaFailure"), "")

    message = await asyncio.to_thread(until, "its pod is refused", failure, 30)
    assert refusal_in(message) == Refusal(Why.NO_SERVICE_ACCOUNT)
