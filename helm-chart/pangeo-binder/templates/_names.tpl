{{- /* Names and labels. Objects have the same names in every release, because the official charts' values name some of
them; so a namespace holds one release. Names of cluster-wide objects begin with the release's namespace. */ -}}

{{- define "pangeo-binder.labels" -}}
app.kubernetes.io/name: pangeo-binder
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "pangeo-binder.selector" -}}
app.kubernetes.io/name: pangeo-binder
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "pangeo-binder.clusterwide" -}}
{{- printf "%s-pangeo-binder" .Release.Namespace }}
{{- end }}

{{- define "pangeo-binder.buildsNamespace" -}}
{{- .Values.builds.namespace | default (printf "%s-builds" .Release.Namespace) }}
{{- end }}

{{- define "pangeo-binder.sharedNamespace" -}}
{{- if eq .Values.launches.layout "shared" }}{{ .Values.launches.prefix }}-shared{{ end }}
{{- end }}

{{- /* the rule by which dask-gateway's chart names its objects */ -}}
{{- define "pangeo-binder.gatewayInstance" -}}
{{- $values := index .Values "dask-gateway" }}
{{- $name := $values.nameOverride | default "dask-gateway" }}
{{- $long := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- $values.fullnameOverride | default $long | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "pangeo-binder.gatewayApi" -}}
{{- include "pangeo-binder.gatewayInstance" . | printf "api-%s" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "pangeo-binder.gatewayTraefik" -}}
{{- include "pangeo-binder.gatewayInstance" . | printf "traefik-%s" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "pangeo-binder.usesGateway" -}}
{{- if and (index .Values "dask-gateway" "enabled") (eq .Values.dask.backend "gateway") }}yes{{ end }}
{{- end }}

{{- define "pangeo-binder.image" -}}
{{- printf "%s:%s" .name .tag }}
{{- end }}
