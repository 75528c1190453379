{{- /*
What is known of each service, by its key in the values: its role in `shoal serve`, its section of the settings, how several
of it stand beside each other, whom it asks over gRPC. A process opens the log and the tables whatever its role.

  spread   any number beside each other, replaced one by one without a gap; nothing rests on the name of a pod
  named    any number beside each other under lasting names: what one left in the outbox is found by the next of its name
  single   one at a time; fenced positions keep an overlap (a node that is lost, not dead) from counting anything twice
*/ -}}
{{- define "shoal.services" -}}
edge:
  role: edge
  section: edge
  kind: spread
  asks: []
telemetryIngest:
  role: telemetry-ingest
  section: telemetry_ingest
  kind: {{ ternary "named" "single" .Values.telemetryIngest.sharesPartitions }}
  asks: []
forecaster:
  role: forecaster
  section: forecaster
  kind: single
  asks: [telemetryIngest, gateway]
optimizer:
  role: optimizer
  section: optimizer
  kind: single
  asks: [telemetryIngest, forecaster]
gateway:
  role: gateway
  section: gateway
  kind: named
  asks: [gateway]
console:
  role: console
  section: console
  kind: spread
  asks: [telemetryIngest, forecaster, optimizer, gateway]
{{- end -}}

{{- /* The services that are switched on. */ -}}
{{- define "shoal.enabled" -}}
{{- $all := include "shoal.services" . | fromYaml -}}
{{- $on := dict -}}
{{- range $key, $service := $all -}}
{{- if (index $.Values $key).enabled -}}
{{- $_ := set $on $key $service -}}
{{- end -}}
{{- end -}}
{{- $on | toYaml -}}
{{- end -}}

{{- /* The setting with the address on which a service is spoken to: dict root, key. */ -}}
{{- define "shoal.listen" -}}
{{- $config := .root.Values.config -}}
{{- if eq .key "edge" -}}
{{- dig "edge" "listen" "" $config -}}
{{- else if eq .key "console" -}}
{{- dig "web" "listen" "" $config -}}
{{- else -}}
{{- $section := (index (include "shoal.services" .root | fromYaml) .key).section -}}
{{- dig "grpc" $section (dig "grpc" "listen" "" $config) $config -}}
{{- end -}}
{{- end -}}

{{- /* Name of that port. */ -}}
{{- define "shoal.speaks" -}}
{{- if eq .key "edge" }}ocpp{{ else if eq .key "console" }}http{{ else }}grpc{{ end -}}
{{- end -}}

{{- /* How many may run at once: dict root, key. */ -}}
{{- define "shoal.most" -}}
{{- $values := index .root.Values .key -}}
{{- $scaled := and (hasKey $values "autoscaling") (dig "autoscaling" "enabled" false $values) -}}
{{- if $scaled -}}{{ $values.autoscaling.maxReplicas | int }}{{- else -}}{{ $values.replicas | int }}{{- end -}}
{{- end -}}
