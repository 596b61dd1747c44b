{{- /* The settings of our processes. pangeo_binder/deploy/kube/values.py reads them and refuses unknown keys. */ -}}
{{- define "pangeo-binder.values" -}}
site:
  release: {{ .Release.Name }}
  namespace: {{ .Release.Namespace }}
  tiers: {{ keys .Values.policy.tiers | sortAlpha | toJson }}
  gatewayInstance: {{ include "pangeo-binder.gatewayInstance" . }}
  gatewayApi: {{ include "pangeo-binder.gatewayApi" . }}
  gatewayTraefik: {{ include "pangeo-binder.gatewayTraefik" . }}
  gatewayMiddleware: {{ include "pangeo-binder.gatewayInstance" . | printf "clusters-prefix-%s" | trunc 63 | trimSuffix "-" }}
  gatewayPrefix: {{ index .Values "dask-gateway" "gateway" "prefix" }}
  traefikPort: {{ dig "traefik" "service" "ports" "web" "port" 80 (index .Values "dask-gateway") }}
  sharedNamespace: {{ include "pangeo-binder.sharedNamespace" . | quote }}
  launchRoles:
    {{- if include "pangeo-binder.usesGateway" . }}
    {{- range $process := list "gateway" "dask-controller" }}
    - {role: {{ include "pangeo-binder.clusterwide" $ }}-{{ $process }}-launches, account: pangeo-binder-{{ $process }}}
    {{- end }}
    {{- else }} []
    {{- end }}
  buildsNamespace: {{ include "pangeo-binder.buildsNamespace" . }}
  priorityClasses: {{ include "pangeo-binder.priorityClasses" . | nindent 4 }}
  gitNetworks: {{ .Values.networkPolicies.gitNetworks | toJson }}
  builderImage: {{ include "pangeo-binder.image" .Values.images.builder }}
  pullPolicy: {{ .Values.images.pullPolicy }}
  pullSecrets: {{ .Values.images.pullSecrets | toJson }}
binder: {{- omit .Values.binder "replicas" "resources" "nodeSelector" "tolerations" | toYaml | nindent 2 }}
builds: {{- omit .Values.builds "namespace" | toYaml | nindent 2 }}
registry: {{- omit .Values.registry "namespace" "allowAnonymousPush" | toYaml | nindent 2 }}
launches: {{- omit .Values.launches "layout" | toYaml | nindent 2 }}
dask: {{- omit .Values.dask "resources" | toYaml | nindent 2 }}
logLevel: {{ .Values.logLevel }}
logFormat: {{ .Values.logFormat }}
{{- end }}

{{- define "pangeo-binder.priorityClasses" -}}
{{- range $kind := list "servers" "dask" "builds" }}
{{ $kind }}: {{ $.Values.priorityClasses.create | ternary (printf "%s-%s" (include "pangeo-binder.clusterwide" $) $kind) "" | quote }}
{{- end }}
{{- end }}
