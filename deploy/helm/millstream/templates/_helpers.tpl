{{/* The release's name, as every object's begins. 40 characters leave room for "-coordinator" and a pod's number. */}}
{{- define "millstream.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of the release; never changes while it lives. */}}
{{- define "millstream.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "millstream.labels" -}}
{{ include "millstream.selector" . }}
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Pods carry what changes with the software alone: a new version of the chart does not restart them. */}}
{{- define "millstream.podLabels" -}}
{{ include "millstream.selector" .root }}
app.kubernetes.io/version: {{ default .root.Chart.AppVersion .root.Values.image.tag | quote }}
app.kubernetes.io/component: {{ .role }}
{{- with .values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "millstream.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "millstream.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "millstream.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Every coordinator's address: whoever gets the list finds the leader. */}}
{{- define "millstream.coordinators" -}}
{{- $addresses := list -}}
{{- range $n := until (int .Values.coordinator.replicas) -}}
{{- $name := printf "%s-coordinator" (include "millstream.fullname" $) -}}
{{- $addresses = append $addresses (printf "http://%s-%d.%s.%s.svc:7070" $name $n $name $.Release.Namespace) -}}
{{- end -}}
{{- join "," $addresses -}}
{{- end -}}

{{- define "millstream.sharedVolumePath" -}}/var/lib/millstream-storage{{- end -}}

{{- define "millstream.secretsPath" -}}/var/run/secrets/millstream{{- end -}}

{{- define "millstream.storageUrl" -}}
{{- /* Not the volume's root: that may have a lost+found nobody can read. */ -}}
{{- default (printf "file://%s/cluster" (include "millstream.sharedVolumePath" .)) .Values.storage.url -}}
{{- end -}}

{{/* What the pods of both roles have alike. */}}
{{- define "millstream.podSpec" -}}
serviceAccountName: {{ include "millstream.serviceAccount" . }}
# The engine does not talk to Kubernetes.
automountServiceAccountToken: false
# Variables for every service of the namespace would collide with our own prefix.
enableServiceLinks: false
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Where pods go. Takes the role's values, its name and the root. */}}
{{- define "millstream.placement" -}}
{{- $given := dict -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
{{- with get $.values $field -}}{{- $given = set $given $field . -}}{{- end -}}
{{- end -}}
{{- if not .values.affinity -}}
{{- $labels := include "millstream.selector" .root | fromYaml | merge (dict "app.kubernetes.io/component" .role) -}}
{{- $spread := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" -}}
{{- $spread = set $spread "labelSelector" (dict "matchLabels" $labels) -}}
{{- $given = set $given "topologySpreadConstraints" (list $spread) -}}
{{- end -}}
{{- toYaml $given -}}
{{- end -}}

{{- define "millstream.containerSpec" -}}
image: {{ include "millstream.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- toYaml .Values.containerSecurityContext | nindent 2 }}
envFrom:
  - configMapRef: { name: {{ include "millstream.fullname" . }}-settings }
  {{- with .Values.storage.credentialsSecret }}
  - secretRef: { name: {{ . }} }
  {{- end }}
  {{- range .Values.environmentSecrets }}
  - secretRef: { name: {{ . }} }
  {{- end }}
# /healthz: the process lives. /readyz: it can do its work; a standby is ready too.
startupProbe:
  httpGet: { path: /healthz, port: http }
  periodSeconds: 1
  timeoutSeconds: 3
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /healthz, port: http }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: http }
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{- define "millstream.volumeMounts" -}}
- { name: tmp, mountPath: /tmp }
{{- if .Values.secrets }}
- { name: secrets, mountPath: {{ include "millstream.secretsPath" . }}, readOnly: true }
{{- end }}
{{- if not .Values.storage.url }}
- { name: storage, mountPath: {{ include "millstream.sharedVolumePath" . }} }
{{- end }}
{{- end -}}

{{- define "millstream.volumes" -}}
- name: tmp
  emptyDir: { sizeLimit: 1Gi }
{{- with .Values.secrets }}
- name: secrets
  secret: { secretName: {{ . }} }
{{- end }}
{{- if not .Values.storage.url }}
- name: storage
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-storage" (include "millstream.fullname" .)) .Values.storage.sharedVolume.existingClaim }}
{{- end }}
{{- end -}}

{{/* What every pod finds in its environment. */}}
{{- define "millstream.settings" -}}
{{- $given := merge (dict) .Values.environment .Values.storage.environment -}}
{{- range $name := list "MILLSTREAM_SERVER" "MILLSTREAM_LOG" "MILLSTREAM_LOG_FORMAT" "MILLSTREAM_SECRETS" -}}
{{- if hasKey $given $name -}}
{{- fail (printf "the chart sets the environment variable %s itself; see `log`, `coordinator` and `secrets` in its values" $name) -}}
{{- end -}}
{{- end -}}
# For engine-cli in any of the pods.
MILLSTREAM_SERVER: {{ include "millstream.coordinators" . | quote }}
MILLSTREAM_LOG: {{ .Values.log.filter | quote }}
MILLSTREAM_LOG_FORMAT: {{ .Values.log.format | quote }}
{{- if .Values.secrets }}
MILLSTREAM_SECRETS: {{ include "millstream.secretsPath" . | quote }}
{{- end }}
{{- range $name, $value := $given }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Pods are replaced when a setting changes. */}}
{{- define "millstream.podAnnotations" -}}
checksum/settings: {{ include "millstream.settings" .root | sha256sum }}
{{- with .values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The worker's memory for the command line: YAML's large integers would be written with an exponent. */}}
{{- define "millstream.workerMemory" -}}
{{- if kindIs "string" .Values.worker.memory -}}{{ .Values.worker.memory }}{{- else -}}{{ int64 .Values.worker.memory }}{{- end -}}
{{- end -}}

{{/* Fails when a worker has too little memory to work with, or may use more than its container is given. */}}
{{- define "millstream.checkMemory" -}}
{{- $shift := dict "" 1 "k" 1024 "m" 1048576 "g" 1073741824 "t" 1099511627776 -}}
{{- $given := include "millstream.workerMemory" . -}}
{{- $unit := regexFind "[a-z]" (lower $given) | replace "b" "" -}}
{{- $memory := mul (regexFind "^[0-9]+" $given) (get $shift $unit) -}}
{{- if lt $memory 134217728 -}}
{{- fail (printf "worker.memory is %s; give it at least 128mb" $given) -}}
{{- end -}}
{{- $limit := dig "limits" "memory" "" .Values.worker.resources | toString -}}
{{- if regexMatch "^[0-9]+[KMGT]i$" $limit -}}
{{- if gt (mul $memory 10) (mul 9 (regexFind "^[0-9]+" $limit) (get $shift (regexFind "[a-z]" (lower $limit)))) -}}
{{- fail (printf "worker.memory is %s, more than nine tenths of worker.resources.limits.memory, %s; files that the system reads and short peaks come on top" $given $limit) -}}
{{- end -}}
{{- end -}}
{{- end -}}
