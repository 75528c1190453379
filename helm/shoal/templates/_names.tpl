{{- define "shoal.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "shoal.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "shoal.labels" -}}
{{ include "shoal.selector" . }}
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | quote }}
app.kubernetes.io/part-of: shoal
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "shoal.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- /* The number at the end of an address like 0.0.0.0:9221; none without one. */ -}}
{{- define "shoal.port" -}}
{{- regexFind "[0-9]+$" (default "" .) -}}
{{- end -}}

{{- /* The port of http://host:9300, https://host or postgres://user@host/database. */ -}}
{{- define "shoal.portOfUrl" -}}
{{- $said := regexFind "^[a-z]+://[^/?]*:[0-9]+" . | include "shoal.port" -}}
{{- default (get (dict "http" "80" "https" "443" "postgres" "5432" "postgresql" "5432") (splitList ":" . | first)) $said -}}
{{- end -}}
