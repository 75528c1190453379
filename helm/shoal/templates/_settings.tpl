{{- /*
The settings of one service as a map: what all share, its own section, the files of its secrets. A change in the section of another
service does not restart it: an edge that restarts lets go of thousands of stations. dict root, key (none: what all share).
*/ -}}
{{- define "shoal.settings" -}}
{{- $root := .root -}}
{{- $config := deepCopy $root.Values.config -}}
{{- $services := include "shoal.services" $root | fromYaml -}}
{{- range $key, $service := $services -}}
{{- if ne $key $.key -}}
{{- $_ := unset $config $service.section -}}
{{- end -}}
{{- end -}}
{{- if $root.Values.serviceTls.existingSecret -}}
{{- $files := dict "certificate" "/etc/shoal/service-tls/tls.crt" "key" "/etc/shoal/service-tls/tls.key" "ca" "/etc/shoal/service-tls/ca.crt" -}}
{{- $_ := set $config "tls" (mergeOverwrite $files (default dict $config.tls)) -}}
{{- end -}}
{{- if include "shoal.database" $root -}}
{{- $file := printf "/etc/shoal/database/%s" $root.Values.database.key -}}
{{- $_ := set $config "store" (mergeOverwrite (dict "password_file" $file) $config.store) -}}
{{- end -}}
{{- if .key -}}
{{- $service := index $services .key -}}
{{- if eq .key "edge" -}}
{{- $edge := default dict $config.edge -}}
{{- $files := include "shoal.stationFiles" $root | fromYaml -}}
{{- $_ := set $edge "security" (mergeOverwrite $files (default dict $edge.security)) -}}
{{- $_ := set $config "edge" $edge -}}
{{- end -}}
{{- $peers := include "shoal.peers" . | fromYaml -}}
{{- if or $peers $config.peers -}}
{{- $_ := set $config "peers" (mergeOverwrite $peers (default dict $config.peers)) -}}
{{- end -}}
{{- else -}}
{{- $_ := unset $config "peers" -}}
{{- end -}}
{{- $config | toYaml -}}
{{- end -}}

{{- /* Addresses of those whom a service asks: dict root, key. */ -}}
{{- define "shoal.peers" -}}
{{- $root := .root -}}
{{- $services := include "shoal.services" $root | fromYaml -}}
{{- $peers := dict -}}
{{- range $asked := (index $services .key).asks -}}
{{- if and (ne $asked $.key) (index $root.Values $asked).enabled -}}
{{- $service := index $services $asked -}}
{{- $port := include "shoal.listen" (dict "root" $root "key" $asked) | include "shoal.port" -}}
{{- $_ := set $peers $service.section (printf "%s://%s-%s:%s" (include "shoal.scheme" $root) (include "shoal.fullname" $root) $service.role $port) -}}
{{- end -}}
{{- end -}}
{{- $peers | toYaml -}}
{{- end -}}

{{- define "shoal.scheme" -}}
{{- ternary "https" "http" (ne .Values.serviceTls.existingSecret "") -}}
{{- end -}}

{{- /* Where the edge finds the secrets that the values name, by the key of [edge.security]. */ -}}
{{- define "shoal.stationFiles" -}}
{{- $secrets := .Values.edge.secrets -}}
{{- $files := dict -}}
{{- if $secrets.tls -}}
{{- $_ := set $files "certificate" "/etc/shoal/edge-tls/tls.crt" -}}
{{- $_ := set $files "key" "/etc/shoal/edge-tls/tls.key" -}}
{{- end -}}
{{- if $secrets.credentials -}}{{- $_ := set $files "credentials" "/etc/shoal/edge-credentials/credentials" -}}{{- end -}}
{{- if $secrets.clientCa -}}{{- $_ := set $files "client_ca" "/etc/shoal/edge-client-ca/ca.crt" -}}{{- end -}}
{{- if $secrets.clientCrl -}}{{- $_ := set $files "client_crl" "/etc/shoal/edge-client-crl/ca.crl" -}}{{- end -}}
{{- if $secrets.issuer -}}
{{- $_ := set $files "issuer" "/etc/shoal/edge-issuer/tls.crt" -}}
{{- $_ := set $files "issuer_key" "/etc/shoal/edge-issuer/tls.key" -}}
{{- end -}}
{{- if $secrets.idTokens -}}{{- $_ := set $files "id_tokens" "/etc/shoal/edge-id-tokens/tokens" -}}{{- end -}}
{{- $files | toYaml -}}
{{- end -}}

{{- /* Name of a service's settings. They are immutable in effect: pods restart when the checksum on them changes. */ -}}
{{- define "shoal.configName" -}}
{{ include "shoal.fullname" .root }}-{{ .role }}
{{- end -}}
