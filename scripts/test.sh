#!/bin/sh
# What `make test` runs: every test, and last, where a reader of a cut-off log finds them, the names of those that failed and of
# those that never ended.
#
#   scripts/test.sh [ARGUMENT OF cargo test]...
set -u
cd "$(dirname "$0")/.." || exit 1

# From nothing, the build and the tests take some 25 minutes on two cores. A test that waits for ever must not wait for its reader.
WAIT_MAX=50m

log=$(mktemp)
trap 'rm -f "$log"' EXIT
{
  timeout --verbose "$WAIT_MAX" cargo test --workspace --no-fail-fast "$@" 2>&1
  echo "ended with $?"
} | tee "$log"
code=$(sed -n '$s/^ended with //p' "$log")
[ "$code" -eq 0 ] && exit 0

# The harness tells of a test that takes over a minute, and of each when it ends.
slow=$(sed -n 's/^test \(.*\) has been running for over .*/\1/p' "$log")
ended=$(sed -n 's/^test \(.*\) \.\.\. .*/\1/p' "$log")
{
  echo 'test: not passed:'
  sed -n 's/^test \(.*\) \.\.\. FAILED$/  \1 failed/p' "$log"
  for name in $slow; do
    printf '%s\n' "$ended" | grep -Fqx -- "$name" || echo "  $name did not end"
  done
  grep '^error' "$log" | sort -u | sed 's/^/  /'
} >&2
exit "$code"
