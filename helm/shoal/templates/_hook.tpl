{{- /* What the migration needs is made before everything else and replaced with the next one; the text is the order. */ -}}
{{- define "shoal.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation
{{- end -}}
