# Sourced by tools/quickstart, tools/check, tools/format and .ci/run: packages, stages, the build.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
build=$root/build
model=smollm2-135m
model_file=SmolLM2-135M-Instruct.Q4_1.gguf
install=1
jobs=0
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
export PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ -z "${HOME:-}" ]; then
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
  export HOME
fi
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Debian 12's default, 1.74, is too old; its 1.81 is a package of its own.
boost_package=libboost-dev
[ "$(. /etc/os-release && echo "$ID:${VERSION_ID:-}")" = debian:12 ] && boost_package=libboost1.81-dev

build_packages="ca-certificates g++ cmake ninja-build ccache mold pkg-config nlohmann-json3-dev \
libspdlog-dev libfmt-dev libpcre2-dev libutf8proc-dev libsentencepiece-dev libssl-dev libpng-dev $boost_package \
python3 python3-pip"
test_packages="libgtest-dev libgmock-dev python3-venv valgrind curl openssl"
# The chat page's tests skip where there is no Chromium; elsewhere than in Debian it is no package.
[ "$(. /etc/os-release && echo "$ID")" = debian ] && test_packages="$test_packages chromium"

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# stage "what" command...: one line, with the time it took; the end of its output only on failure.
# The command runs where bash ignores `set -e`: functions given here chain with && themselves.
stage() {
  local what=$1 start=$SECONDS status=0
  shift
  printf '%-42s' "$what"
  "$@" >"$logs/stage" 2>&1 </dev/null || status=$?
  if [ "$status" -ne 0 ]; then
    printf 'FAILED\n'
    tail -n "${HEDDLE_LOG_LINES:-80}" "$logs/stage" >&2
    exit 1
  fi
  printf '%4d s\n' $((SECONDS - start))
}

# The clang of the distribution is a versioned package; its sanitizer runtime carries that version.
clang_packages() {
  local version=""
  case "$(. /etc/os-release && echo "$ID:${VERSION_ID:-}")" in
    debian:12) version=14 ;;
    ubuntu:24.04) version=18 ;;
    *) version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p') ;;
  esac
  echo "clang llvm${version:+ libclang-rt-$version-dev}"
}

missing_packages() {
  local package
  for package in "$@"; do
    case "$(dpkg-query -W -f='${db:Status-Status} ' "$package" 2>/dev/null)" in
      "installed "*) ;;
      *) echo "$package" ;;
    esac
  done
}

# install_packages a b ...: those that are not there yet, as root or through sudo.
install_packages() {
  [ "$install" = 1 ] || return 0
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
    fail "no apt-get here; install what these Debian packages hold, then use --no-install: $*"
  local missing sudo=""
  missing=$(missing_packages "$@" | tr '\n' ' ')
  [ -n "${missing// /}" ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
      sudo="sudo DEBIAN_FRONTEND=noninteractive"
    else
      printf 'These packages are needed. As root, run:\n  apt-get update && apt-get install -y --no-install-recommends %s\n' \
        "${missing% }" >&2
      exit 1
    fi
  fi
  # shellcheck disable=SC2086  # word lists on purpose
  stage "packages ($(wc -w <<<"$missing"))" apt_install "$sudo" $missing
}

apt_install() {
  local sudo=$1
  shift
  $sudo apt-get update -q &&
    $sudo apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

# Compilers want about 1.5 GB each: as many jobs as cores and memory allow.
count_jobs() {
  [ "$jobs" -gt 0 ] && return 0
  local cores memory
  cores=$(nproc)
  memory=$(awk '/MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo)
  jobs=$cores
  [ "$memory" -lt "$jobs" ] && jobs=$memory
  [ "$jobs" -ge 1 ] || jobs=1
}

# The default model, where the program and the tests look for it.
have_model() { [ -s "${HEDDLE_HOME:-$HOME/.cache/heddle}/$model_file" ]; }
pull_model() { have_model || stage "model $model" "$1/heddle" pull "$model"; }

need_value() { [ $# -ge 2 ] || { printf '%s: %s needs a value\n' "$(basename "$0")" "$1" >&2; exit 2; }; }
need_count() {
  need_value "$@"
  [[ $2 =~ ^[1-9][0-9]{0,3}$ ]] ||
    { printf "%s: %s '%s': a number from 1 to 9999 is needed\n" "$(basename "$0")" "$1" "$2" >&2; exit 2; }
}
unknown_option() {
  printf "%s: unknown option '%s'\n" "$(basename "$0")" "$1" >&2
  usage >&2
  exit 2
}
