{{- /*
TOML of a map. Numbers of values files are floats: whole ones are written as integers, since a setting that counts takes no
other, and one that measures takes both.
*/ -}}
{{- define "shoal.toml" -}}
{{- include "shoal.toml.table" (dict "path" "" "table" .) | trim -}}
{{- end -}}

{{- define "shoal.toml.table" -}}
{{- $path := .path -}}
{{- $scalars := dict -}}
{{- $tables := dict -}}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value -}}
{{- $_ := set $tables $key $value -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $_ := set $scalars $key $value -}}
{{- end -}}
{{- end -}}
{{- if and $path (or $scalars (not $tables)) }}
[{{ $path }}]
{{- end }}
{{- range $key, $value := $scalars }}
{{ include "shoal.toml.key" $key }} = {{ include "shoal.toml.value" $value }}
{{- end }}
{{ range $key, $value := $tables }}
{{- $name := include "shoal.toml.key" $key }}
{{- include "shoal.toml.table" (dict "path" (ternary (printf "%s.%s" $path $name) $name (ne $path "")) "table" $value) }}
{{- end }}
{{- end -}}

{{- define "shoal.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toRawJson . }}{{ end -}}
{{- end -}}

{{- define "shoal.toml.value" -}}
{{- if kindIs "string" . -}}
{{- toRawJson . -}}
{{- else if kindIs "bool" . -}}
{{- . -}}
{{- else if kindIs "slice" . -}}
[{{ range $i, $item := . }}{{ if $i }}, {{ end }}{{ include "shoal.toml.value" $item }}{{ end }}]
{{- else if kindIs "map" . -}}
{ {{- $first := true }}{{ range $key, $item := . }}{{ if not $first }},{{ end }}{{ $first = false }} {{ include "shoal.toml.key" $key }} = {{ include "shoal.toml.value" $item }}{{ end }} }
{{- else if eq (float64 .) (floor .) -}}
{{- printf "%.0f" (float64 .) -}}
{{- else -}}
{{- toRawJson . -}}
{{- end -}}
{{- end -}}
