#!/usr/bin/env bash
# Make one of the two environments: `ops/setup.sh platform` or `ops/setup.sh server`. Run by `make setup`, safe to run
# again, writes nothing outside the checkout.
#
#   PYTHON         the interpreter to use; default: the first of python3, python3.13 ... python3.11 that will do
#   SERVER_PYTHON  the same for the model server alone
#   TORCH          cpu (default), or gpu for the CUDA build that PyPI has
#   ROLES          extras of pyproject.toml, with commas; default: all,dev
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH=${TORCH:-cpu}
ROLES=${ROLES:-all,dev}
CPU_INDEX=https://download.pytorch.org/whl/cpu
export PIP_DISABLE_PIP_VERSION_CHECK=1

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

say() {
    printf 'setup: %s\n' "$*"
}

find_python() {
    local newest=$1 candidate test
    shift
    test="import sys; sys.exit(not ((3, 11, 2) <= sys.version_info[:3] and sys.version_info[:2] <= (3, $newest)))"
    for candidate in "$@"; do
        if "$candidate" -c "$test" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "none of '$*' is a Python between 3.11.2 and 3.$newest: install one, for example with" \
        "'sudo apt-get install python3.11 python3.11-venv', and name it, as in 'make setup PYTHON=python3.11'"
}

make_environment() {
    local folder=$1 python version
    shift
    [ -x "$folder/bin/pip" ] && return
    python=$(find_python "$@")
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "Python $version cannot make environments: sudo apt-get install python$version-venv"
    say "$folder with Python $version ($python)"
    "$python" -m venv "$folder"
}

# Of what pip says, the name of each package that it fetches is enough while it works. Why it refuses stands among the rest, on
# standard output: shown when it ends so.
install() {
    local folder=$1
    shift
    if ! "$folder/bin/pip" install --no-compile --constraint "${CONSTRAINTS:-constraints.txt}" "$@" | tee "$folder/pip.log" |
        sed -un -e 's/^Collecting \([^ ]*\).*/setup:   \1/p' -e 's/^Installing collected packages:.*/setup: installing them/p'; then
        reasons "$folder/pip.log" >&2
        return 1
    fi
}

# pip compiles one file after the other, this on all cores. A package may hold a file for another Python: nobody imports it.
compile() {
    "$1/bin/python" -m compileall -qq -j 0 "$1/lib" || true
}

# What pip said beside its progress. It goes back through versions to find the cause, so the cause stands at the end.
reasons() {
    grep -Ev '^ *(Collecting|Downloading|Using cached|Requirement already|Installing|Looking in|Preparing|Getting|Obtaining|Building|Created|Stored|Saved) |^ *(━|[0-9.]+/[0-9.]+ [kMG]?B)|^ *$' "$1" |
        tail -n 25 | sed 's/^/setup: pip: /' || true
    printf 'setup: all that pip said is in %s\n' "$1"
}

# PyPI's torch brings 3 GB of CUDA. The CPU build has the same version and its own index; a pip that is configured with
# a folder of wheels may have it there. Where neither is in reach, PyPI's build works too, it is only large.
install_torch() {
    local folder=$1 version installed
    version=$(sed -n 's/^torch==//p' constraints.txt)
    installed=$("$folder/bin/python" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null || true)
    [[ $TORCH:$installed == cpu:$version* ]] && return
    [[ $TORCH:$installed == gpu:$version && $installed != *+cpu ]] && return
    if [ "$TORCH" = cpu ]; then
        say "torch $version for CPUs"
        # Where no folder of wheels has it, that is no failure, so its reasons are kept back.
        install "$folder" --no-deps --quiet "torch==$version+cpu" 2>/dev/null && return
        install "$folder" --no-deps --timeout 20 --retries 1 --index-url "$CPU_INDEX" "torch==$version+cpu" && return
        say "$CPU_INDEX does not answer: taking PyPI's build, with CUDA, several GB"
    elif [ "$TORCH" != gpu ]; then
        fail "TORCH is '$TORCH': cpu or gpu"
    fi
    install "$folder" "torch==$version"
}

# Triton's Python backend links to it: Debian has it in a package of its own, other builds of Python in their own folder.
check_libpython() {
    "$1/bin/python" - <<'PYTHON' || exit 1
import ctypes, pathlib, sys, sysconfig

version = "%d.%d" % sys.version_info[:2]
name = f"libpython{version}.so.1.0"
for place in (name, str(pathlib.Path(sysconfig.get_config_var("LIBDIR")) / name)):
    try:
        ctypes.CDLL(place)
        break
    except OSError:
        continue
else:
    sys.exit(f"setup: {name}, which Triton's Python backend needs, is missing: sudo apt-get install libpython{version}")
PYTHON
}

case ${1:-} in
platform)
    # shellcheck disable=SC2086  a list of names
    make_environment .venv 13 ${PYTHON:-python3 python3.13 python3.12 python3.11}
    say "packages of the platform, roles $ROLES (all of them: some 280, 2.6 GB on disk; minutes the first time)"
    case ",$ROLES," in
    *,all,* | *,train,*) install_torch .venv ;;
    esac
    # compat: the checkout's folder on the path, so that a package added later is found without installing again.
    install .venv --config-settings editable_mode=compat --editable ".[$ROLES]"
    compile .venv
    ;;
server)
    # Up to 3.12, the newest that has numpy 1.
    # shellcheck disable=SC2086  a list of names
    make_environment .venv-server 12 ${SERVER_PYTHON:-${PYTHON:-} python3 python3.12 python3.11}
    check_libpython .venv-server
    say "packages of the model server"
    # The one version that differs from the platform's stands in the requirements, with the reason.
    sed '/^numpy==/d' constraints.txt >.venv-server/constraints.txt
    CONSTRAINTS=.venv-server/constraints.txt install .venv-server --requirement ops/server-requirements.txt
    compile .venv-server
    ;;
*)
    fail "which environment: platform or server?"
    ;;
esac
