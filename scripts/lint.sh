#!/bin/sh
# What `make lint` checks; every check runs, and any failure fails the whole.
set -u
cd "$(dirname "$0")/.." || exit 1
failed=

check() {
  name=$1
  shift
  printf 'lint: %s\n' "$name"
  "$@" || failed="$failed $name"
}

check format cargo fmt --all --check
check clippy cargo clippy --quiet --workspace --all-targets -- -D warnings
check protos sh -c 'cd proto && buf lint'
check manifests scripts/check-manifests.sh
check shell sh -c "git ls-files -z -- '*.sh' .ci/run | xargs -0 shellcheck"

[ -z "$failed" ] || {
  printf 'lint: failed:%s\n' "$failed" >&2
  exit 1
}
echo 'lint: clean'
