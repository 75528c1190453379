{{- /* What the schema cannot say: settings that contradict each other. Each line names the key, what was met, what was expected. */ -}}
{{- define "shoal.checks" -}}
{{- $root := . -}}
{{- $values := .Values -}}
{{- $on := include "shoal.enabled" . | fromYaml -}}
{{- if not $on -}}
{{- fail "no service is enabled, expected at least one of edge, telemetryIngest, forecaster, optimizer, gateway, console" -}}
{{- end -}}
{{- if not (dig "log" "brokers" "" $values.config) -}}
{{- fail "config.log.brokers: missing, expected host:port,host:port: services in pods of their own share nothing but Kafka" -}}
{{- end -}}
{{- $admin := dig "admin" "listen" "" $values.config -}}
{{- include "shoal.checks.address" (dict "key" "config.admin.listen" "address" $admin) -}}
{{- $taken := dict (include "shoal.port" $admin) "config.admin.listen" -}}
{{- range $key, $service := $on -}}
{{- $what := ternary "config.edge.listen" (ternary "config.web.listen" (printf "config.grpc.%s or config.grpc.listen" $service.section) (eq $key "console")) (eq $key "edge") -}}
{{- $address := include "shoal.listen" (dict "root" $root "key" $key) -}}
{{- include "shoal.checks.address" (dict "key" $what "address" $address) -}}
{{- if hasKey $taken (include "shoal.port" $address) -}}
{{- fail (printf "%s: %s has the port of %s, expected another" $what $address (index $taken (include "shoal.port" $address))) -}}
{{- end -}}
{{- if and (eq $service.kind "single") (ne (include "shoal.most" (dict "root" $root "key" $key)) "1") -}}
{{- fail (printf "%s: more than one replica, expected 1: each would serve part of what all others ask it for%s" $key (ternary " (telemetryIngest.sharesPartitions is for a program whose ingest shares them)" "" (eq $key "telemetryIngest"))) -}}
{{- end -}}
{{- $scaling := (index $values $key).autoscaling -}}
{{- if and $scaling $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail (printf "%s.autoscaling: minReplicas %d is above maxReplicas %d" $key (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if ne (eq (include "shoal.database" .) "") (eq $values.database.existingSecret "") -}}
{{- fail "config.store.url and database.existingSecret: one without the other, expected both for PostgreSQL or none for SQLite" -}}
{{- end -}}
{{- if and $values.export.enabled (not $values.export.existingClaim) -}}
{{- fail "export.existingClaim: missing, expected the claim of the volume that keeps the history" -}}
{{- end -}}
{{- if $values.edge.enabled -}}
{{- include "shoal.checks.edge" $root -}}
{{- end -}}
{{- if and $values.telemetryIngest.enabled $values.telemetryIngest.autoscaling.enabled -}}
{{- $partitions := int (dig "log" "partitions" 24 $values.config) -}}
{{- if gt (int $values.telemetryIngest.autoscaling.maxReplicas) $partitions -}}
{{- fail (printf "telemetryIngest.autoscaling.maxReplicas: %d, expected at most config.log.partitions (%d): the others would have nothing to read" (int $values.telemetryIngest.autoscaling.maxReplicas) $partitions) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "shoal.checks.address" -}}
{{- if not (include "shoal.port" .address) -}}
{{- fail (printf "%s: met %q, expected an address like 0.0.0.0:9221" .key .address) -}}
{{- end -}}
{{- if regexMatch "^(127\\.|\\[::1\\]|localhost)" .address -}}
{{- fail (printf "%s: %s is reached from within the pod only, expected 0.0.0.0 or [::]" .key .address) -}}
{{- end -}}
{{- end -}}

{{- define "shoal.checks.edge" -}}
{{- $edge := .Values.edge -}}
{{- $config := .Values.config.edge -}}
{{- if and (ne (include "shoal.most" (dict "root" . "key" "edge")) "1") (not $config.replicas) -}}
{{- fail "config.edge.replicas: false with several edges, expected true: a set-point for a station of another edge would be answered as unreachable" -}}
{{- end -}}
{{- $profile := dig "security" "profile" "open" $config -}}
{{- $files := mergeOverwrite (include "shoal.stationFiles" . | fromYaml) (default dict (dig "security" dict $config)) -}}
{{- $needs := index (dict "open" (list) "basic" (list "credentials") "tls-basic" (list "certificate" "key" "credentials") "mutual-tls" (list "certificate" "key" "client_ca")) $profile -}}
{{- if eq $profile "open" -}}
{{- fail "config.edge.security.profile: open is refused by the edge on an address that is not loopback, expected basic, tls-basic or mutual-tls" -}}
{{- end -}}
{{- if kindIs "invalid" $needs -}}
{{- fail (printf "config.edge.security.profile: met %q, expected basic, tls-basic or mutual-tls" $profile) -}}
{{- end -}}
{{- $secret := dict "credentials" "edge.secrets.credentials" "certificate" "edge.secrets.tls" "key" "edge.secrets.tls" "client_ca" "edge.secrets.clientCa" -}}
{{- range $needs -}}
{{- if not (index $files .) -}}
{{- fail (printf "%s: missing, expected the name of a secret: profile %s needs %s" (index $secret .) $profile .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
