{{- /* What every process of ours speaks to: names, the brokers, the database. */ -}}
{{- define "shoal.reach" -}}
{{- $policy := .Values.networkPolicy -}}
- to: {{- toYaml $policy.dns | nindent 4 }}
  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
- ports:
    {{- $ports := list }}
    {{- range $broker := splitList "," .Values.config.log.brokers }}
    {{- $ports = append $ports (trim $broker | include "shoal.port") }}
    {{- end }}
    {{- range uniq $ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with $policy.kafka }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with include "shoal.database" . }}
- ports: [{protocol: TCP, port: {{ include "shoal.portOfUrl" . }}}]
  {{- with $policy.database }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- with dig "telemetry" "otlp" "" .Values.config }}
- ports: [{protocol: TCP, port: {{ include "shoal.portOfUrl" . }}}]
  {{- with $policy.collector }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}
