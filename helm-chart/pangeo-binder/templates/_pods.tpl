{{- /* Common to all pods of this chart: the Pod Security Standard "restricted", and a read-only root. */ -}}

{{- define "pangeo-binder.pod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  seccompProfile: {type: RuntimeDefault}
enableServiceLinks: false
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets: {{ . | toJson }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{ . | toJson }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ . | toJson }}
{{- end }}
{{- end }}

{{- define "pangeo-binder.container" -}}
imagePullPolicy: {{ .Values.images.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* a change of configuration restarts the pod; Secrets are not included, because they are created once */ -}}
{{- define "pangeo-binder.checksum" -}}
pangeo-binder/config: {{ include (print .Template.BasePath "/config.yaml") . | sha256sum | trunc 32 }}
{{- end }}
