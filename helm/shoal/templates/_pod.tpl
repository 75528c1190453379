{{- /* Labels by which the pods of one service are found: dict root, role. */ -}}
{{- define "shoal.podSelector" -}}
{{ include "shoal.selector" .root }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- /* Labels of a pod: what would restart it for nothing, such as the version of the chart, is not among them. */ -}}
{{- define "shoal.podLabels" -}}
{{ include "shoal.podSelector" . }}
app.kubernetes.io/version: {{ default .root.Chart.AppVersion .root.Values.image.tag | quote }}
{{- end -}}

{{- define "shoal.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "shoal.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Where a pod may run: the values of a service, or of the migration. */ -}}
{{- define "shoal.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Not empty if the tables are on PostgreSQL. */ -}}
{{- define "shoal.database" -}}
{{- dig "store" "url" "" .Values.config -}}
{{- end -}}

{{- define "shoal.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: {{ 0440 }}
{{- end -}}

{{- define "shoal.pod" -}}
{{- $root := .root -}}
{{- $service := .service -}}
{{- $values := index $root.Values .key -}}
{{- $name := printf "%s-%s" (include "shoal.fullname" $root) $service.role -}}
{{- $grace := dig "process" "grace_seconds" 20 $root.Values.config | int -}}
{{- $admin := dig "admin" "listen" "" $root.Values.config | include "shoal.port" -}}
{{- $port := include "shoal.listen" . | include "shoal.port" -}}
{{- $shared := not (include "shoal.database" $root) -}}
metadata:
  labels: {{- include "shoal.podLabels" (dict "root" $root "role" $service.role) | nindent 4 }}
  annotations:
    checksum/settings: {{ include "shoal.settings" . | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ $name }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add $grace $root.Values.drain.beforeSeconds $root.Values.drain.spareSeconds }}
  securityContext: {{- include "shoal.podSecurity" $root | nindent 4 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "shoal.placement" $values | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if $shared }}
  affinity:
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "shoal.selector" $root | nindent 14 }}
            matchExpressions:
              - {key: app.kubernetes.io/component, operator: NotIn, values: [migrate, export]}
  {{- else }}
  topologySpreadConstraints:
    {{- range $key := $root.Values.topologyKeys }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "shoal.podSelector" (dict "root" $root "role" $service.role) | nindent 10 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ $service.role }}
      image: {{ include "shoal.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [serve, {{ $service.role }}, --config, /etc/shoal/shoal.toml]
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: SHOAL_LOG__PROCESS
          value: {{ ternary $service.role "$(POD_NAME)" (eq $service.kind "single") | quote }}
        {{- if eq .key "gateway" }}
        - name: SHOAL_GRPC__ADVERTISE
          value: {{ printf "%s://$(POD_NAME).%s-pods.%s.svc:%s" (include "shoal.scheme" $root) $name $root.Release.Namespace $port | quote }}
        {{- end }}
      ports:
        - {name: admin, containerPort: {{ $admin }}, protocol: TCP}
        - {name: {{ include "shoal.speaks" . }}, containerPort: {{ $port }}, protocol: TCP}
      startupProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 2
        failureThreshold: {{ div (add $root.Values.probes.startSeconds 1) 2 }}
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 10
        timeoutSeconds: {{ $root.Values.probes.timeoutSeconds }}
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
        timeoutSeconds: {{ $root.Values.probes.timeoutSeconds }}
        failureThreshold: 2
      lifecycle:
        preStop:
          sleep: {seconds: {{ $root.Values.drain.beforeSeconds }}}
      resources: {{- toYaml $values.resources | nindent 8 }}
      securityContext: {{- include "shoal.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /etc/shoal/shoal.toml, subPath: shoal.toml, readOnly: true}
        - {name: data, mountPath: {{ $root.Values.config.store.dir }}}
        - {name: tmp, mountPath: /tmp}
        {{- if not $shared }}
        - {name: database, mountPath: /etc/shoal/database, readOnly: true}
        {{- end }}
        {{- if $root.Values.serviceTls.existingSecret }}
        - {name: service-tls, mountPath: /etc/shoal/service-tls, readOnly: true}
        {{- end }}
        {{- if eq .key "edge" }}
        {{- range $what, $secret := include "shoal.stationSecrets" $root | fromYaml }}
        - {name: {{ $what }}, mountPath: /etc/shoal/{{ $what }}, readOnly: true}
        {{- end }}
        {{- end }}
  volumes:
    - name: settings
      configMap: {name: {{ include "shoal.configName" (dict "root" $root "role" $service.role) }}}
    - name: data
      {{- if $shared }}
      persistentVolumeClaim: {claimName: {{ include "shoal.claim" $root }}}
      {{- else }}
      emptyDir: {sizeLimit: 64Mi}
      {{- end }}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- if not $shared }}
    {{- include "shoal.secretVolume" (dict "name" "database" "secret" $root.Values.database.existingSecret) | nindent 4 }}
    {{- end }}
    {{- with $root.Values.serviceTls.existingSecret }}
    {{- include "shoal.secretVolume" (dict "name" "service-tls" "secret" .) | nindent 4 }}
    {{- end }}
    {{- if eq .key "edge" }}
    {{- range $what, $secret := include "shoal.stationSecrets" $root | fromYaml }}
    {{- include "shoal.secretVolume" (dict "name" $what "secret" $secret) | nindent 4 }}
    {{- end }}
    {{- end }}
{{- end -}}

{{- /* Secrets that the edge reads, by the folder in which they stand. */ -}}
{{- define "shoal.stationSecrets" -}}
{{- with .Values.edge.secrets -}}
{{- $named := dict -}}
{{- range $folder, $secret := dict "edge-tls" .tls "edge-credentials" .credentials "edge-client-ca" .clientCa "edge-client-crl" .clientCrl "edge-id-tokens" .idTokens "edge-issuer" .issuer -}}
{{- if $secret -}}{{- $_ := set $named $folder $secret -}}{{- end -}}
{{- end -}}
{{- $named | toYaml -}}
{{- end -}}
{{- end -}}

{{- define "shoal.claim" -}}
{{- default (printf "%s-tables" (include "shoal.fullname" .)) .Values.volume.existingClaim -}}
{{- end -}}
