#!/bin/sh
# Checks every overlay of manifests/ without a cluster: it builds, each object is valid for Kubernetes, every port name and
# secret that is meant to be known is, and no secret is contained. Given a linkmesh program, also that it takes the configuration.
#
#   scripts/check-manifests.sh [PATH-OF-LINKMESH]
set -eu
cd "$(dirname "$0")/.."
linkmesh=${1:-}
rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT

fail() {
  printf 'manifests: %s\n' "$*" >&2
  exit 1
}

for overlay in manifests/overlays/*/; do
  kustomize build "$overlay" >"$rendered" || fail "$overlay does not build"
  kubernetes-validate --strict --quiet "$rendered" || fail "$overlay is not valid"
  if grep -q '^kind: Secret$' "$rendered"; then
    fail "$overlay contains a secret; refer to one instead"
  fi
  if grep -Eq '(postgres|redis|rediss)://[^/@ ]*:[^/@ ]*@' "$rendered"; then
    fail "$overlay contains a password"
  fi
  # shellcheck disable=SC2013 # names without blanks
  for service in $(sed -n 's/^pub const NAME: &str = "\(.*\)";$/\1/p' services/*/src/lib.rs edge/src/lib.rs); do
    grep -q "^ *- $service\$" "$rendered" || fail "$overlay runs no $service"
  done
  [ -z "$linkmesh" ] || "$linkmesh" config check --config "$overlay/linkmesh.toml" || fail "$overlay/linkmesh.toml is refused"
done
