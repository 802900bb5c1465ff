#!/bin/sh
# What `make http2` runs: httpwg's 107 cases of HTTP/2 against the edge's listener and against hyper as it comes. Fails if the
# edge fails a case that hyper passes; those that fail are in the HTTP/2 library below, and are listed.
set -eu
cd "$(dirname "$0")/.."

WAIT_MAX=120
FRAME_WAIT_MILLIS=2000
ATTEMPTS_MAX=4
server=target/debug/conformance
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# failures NAME PORT: the cases that a server fails, sorted, one a line.
failures() {
  # It exits with an error for any case that fails.
  timeout "$WAIT_MAX" httpwg -a "127.0.0.1:$2" --frame-timeout "$FRAME_WAIT_MILLIS" -- "$server" "$1" "$2" \
    > "$folder/$1.log" 2>&1 || true
  sed -i 's/\x1b\[[0-9;]*m//g' "$folder/$1.log"
  grep -q ' Passed [0-9]*/107 tests' "$folder/$1.log" || {
    tail -n 20 "$folder/$1.log" >&2
    echo "http2: httpwg did not finish against $1" >&2
    exit 1
  }
  sed -n 's/^.* Test failed: //p' "$folder/$1.log" | sort > "$folder/$1"
  sed -n "s/^.* Passed \([0-9]*\/107\) tests.*/http2: $1 passes \1/p" "$folder/$1.log"
}

failures hyper "${1:-18481}"
failures edge "${2:-18482}"
# A few cases race with the end of their connection, before either server: one that passes once is passed.
attempt=1
while [ -n "$(comm -13 "$folder/hyper" "$folder/edge")" ] && [ "$attempt" -lt "$ATTEMPTS_MAX" ]; do
  attempt=$((attempt + 1))
  mv "$folder/edge" "$folder/before"
  failures edge "${2:-18482}"
  comm -12 "$folder/before" "$folder/edge" > "$folder/always"
  mv "$folder/always" "$folder/edge"
done
sed 's/^/  the edge fails: /' "$folder/edge"
worse=$(comm -13 "$folder/hyper" "$folder/edge")
[ -z "$worse" ] || {
  printf 'http2: the edge fails what hyper passes, %s times:\n%s\n' "$attempt" "$worse" >&2
  exit 1
}
