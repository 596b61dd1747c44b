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
