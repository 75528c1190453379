{{- /* Up at once, down one pod in five minutes: whoever goes hands its partitions or its stations to the others. */ -}}
{{- define "shoal.scalingPace" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - {type: Percent, value: 100, periodSeconds: 60}
scaleDown:
  stabilizationWindowSeconds: 600
  policies:
    - {type: Pods, value: 1, periodSeconds: 300}
{{- end -}}
