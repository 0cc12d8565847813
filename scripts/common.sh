# Shared by the scripts of this folder: sourced, not run.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
step() { printf '\n==> %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
# usage TEXT ARGS...: prints TEXT and exits when the arguments ask for help.
usage() {
  local text=$1 arg
  shift
  for arg in "$@"; do
    case $arg in -h | --help) printf '%s\n' "$text"; exit 0 ;; esac
  done
}
job_count() { nproc; }
# The same object, whichever build folder it is for: one build fills the cache of the others.
export CCACHE_NOHASHDIR=1
# build_preset PRESET [TARGET...]: configures and builds it, quietly unless it fails.
build_preset() {
  local preset=$1
  shift
  step "building ($preset)"
  mkdir -p build
  cmake --preset "$preset" -Wno-dev >"build/configure.$preset.log" 2>&1 || { cat "build/configure.$preset.log"; die "configuring $preset failed"; }
  cmake --build "build/$preset" -j "$(job_count)" ${1:+--target "$@"} || die "building $preset failed"
}
