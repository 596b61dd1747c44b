{{- /* Peers of NetworkPolicies. A rule always lists peers, because an empty `from` allows every peer. */ -}}

{{- define "pangeo-binder.hubPods" -}}
{{- dict "app.kubernetes.io/name" "jupyterhub" "app.kubernetes.io/instance" .root.Release.Name "app.kubernetes.io/component" .component | toJson }}
{{- end }}

{{- define "pangeo-binder.gatewayPods" -}}
{{- $labels := dict "app.kubernetes.io/name" "dask-gateway" "app.kubernetes.io/instance" .root.Release.Name }}
{{- with .component }}{{- $_ := set $labels "app.kubernetes.io/component" . }}{{- end }}
{{- $labels | toJson }}
{{- end }}

{{- /* the pods of launches (servers, schedulers and workers), selected by the labels of their namespace */ -}}
{{- define "pangeo-binder.sessions" -}}
{{- if eq .Values.launches.layout "shared" }}
- namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ include "pangeo-binder.sharedNamespace" . }}}}
  podSelector: {matchExpressions: [{key: pangeo-binder/launch, operator: Exists}]}
{{- else }}
- namespaceSelector: {matchExpressions: [{key: pangeo-binder/launch, operator: Exists}]}
{{- end }}
{{- end }}

{{- define "pangeo-binder.toDns" -}}
- to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    {{- range .Values.launches.dnsNetworks }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end }}

{{- /* the registry, if it runs in this cluster, as a rule of `egress` */ -}}
{{- define "pangeo-binder.toRegistryPods" -}}
{{- with .Values.registry.namespace }}
- to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ . }}}}}]
{{- end }}
{{- end }}

{{- /* The internet as a rule of `egress`: without blocked networks, and only on the listed ports, to which a registry
outside of the cluster adds its own. An `except` of an IPv4 network holds no IPv6 network. hub/kube/manifests.py writes
the same for launches. */ -}}
{{- define "pangeo-binder.toInternet" -}}
{{- $blocked := list "169.254.0.0/16" }}
{{- range .Values.launches.blockedNetworks }}
  {{- if not (contains ":" .) }}{{ $blocked = append $blocked . }}{{ end }}
{{- end }}
{{- $ports := list }}
{{- range .Values.launches.internetPorts }}{{ $ports = append $ports (int .) }}{{ end }}
{{- with .Values.registry }}
  {{- if not (or .namespace .networks) }}
    {{- range list (.pushAddress | default .address) (.askAddress | default .address) }}
      {{- with regexFind ":[0-9]+$" . }}{{ $ports = append $ports (trimPrefix ":" . | int) }}{{ end }}
    {{- end }}
  {{- end }}
{{- end }}
- to: [{ipBlock: {cidr: 0.0.0.0/0, except: {{ $blocked | uniq | sortAlpha | toJson }}}}]
  ports:
    {{- range uniq $ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}

{{- /* The API server's networks and ports as JSON: the operator's, or those of the Service `kubernetes` in the cluster,
which has its own address and those behind it (network plugins differ in which one they compare). */ -}}
{{- define "pangeo-binder.apiServer" -}}
{{- $found := list }}
{{- with .Values.networkPolicies.apiServer }}
  {{- if .networks }}
    {{- $found = append $found (dict "networks" .networks "ports" .ports) }}
  {{- else }}
    {{- $service := lookup "v1" "Service" "default" "kubernetes" }}
    {{- $slice := lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "kubernetes" }}
    {{- if not (and $service $slice) }}
      {{- fail "networkPolicies.apiServer.networks: name the addresses of the API server (`kubectl get endpointslices kubernetes`); the chart finds them only if helm is connected to the cluster" }}
    {{- end }}
    {{- $addresses := list (printf "%s/32" $service.spec.clusterIP) }}
    {{- $found = append $found (dict "networks" $addresses "ports" (include "pangeo-binder.numbers" $service.spec.ports | fromJsonArray)) }}
    {{- $addresses = list }}
    {{- range $slice.endpoints }}{{ range .addresses }}{{ $addresses = append $addresses (printf "%s/32" .) }}{{ end }}{{ end }}
    {{- $found = append $found (dict "networks" $addresses "ports" (include "pangeo-binder.numbers" $slice.ports | fromJsonArray)) }}
  {{- end }}
{{- end }}
{{- $found | toJson }}
{{- end }}

{{- define "pangeo-binder.numbers" -}}
{{- $numbers := list }}
{{- range . }}{{ $numbers = append $numbers (int .port) }}{{ end }}
{{- $numbers | toJson }}
{{- end }}

{{- define "pangeo-binder.toApiServer" -}}
{{- range include "pangeo-binder.apiServer" . | fromJsonArray }}
- to: {{- include "pangeo-binder.blocks" .networks | nindent 4 }}
  ports:
    {{- range .ports }}
    - {port: {{ . | int }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end }}

{{- /* a list of networks in the form of a rule's `to` */ -}}
{{- define "pangeo-binder.blocks" -}}
{{- range . }}
- ipBlock: {cidr: {{ . }}}
{{- end }}
{{- end }}

{{- define "pangeo-binder.fromMonitoring" -}}
{{- if .root.Values.serviceMonitors.enabled }}
- from: [{namespaceSelector: {matchLabels: {{ .root.Values.serviceMonitors.namespaceLabels | toJson }}}}]
  ports: [{port: {{ .port }}}]
{{- end }}
{{- end }}
