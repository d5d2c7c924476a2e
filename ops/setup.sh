#!/usr/bin/env bash
# Make one of the two environments: `ops/setup.sh platform` or `ops/setup.sh server`. Run by `make setup`, safe to run
# again, writes nothing outside the checkout.
#
#   PYTHON   the interpreter to use; default: the first of python3, python3.13 ... python3.11 that is new enough
#   TORCH    cpu (default), or gpu for the CUDA build that PyPI has
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH=${TORCH:-cpu}
CPU_INDEX=https://download.pytorch.org/whl/cpu
export PIP_DISABLE_PIP_VERSION_CHECK=1

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

say() {
    printf 'setup: %s\n' "$*"
}

# Triton's wheel has stubs for Python up to 3.13, and the platform asks for 3.11.
is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if is_supported "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 (${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>&1 || true)):" \
        "sudo apt-get install python3 python3-venv, or name one with PYTHON=..."
}

make_environment() {
    local folder=$1 python version
    python=$(find_python)
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ ! -x "$folder/bin/pip" ]; then
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "Python $version cannot make environments: sudo apt-get install python$version-venv"
        say "$folder with Python $version ($python)"
        "$python" -m venv "$folder"
    fi
}

# The lines about what is there already say nothing.
install() {
    local folder=$1
    shift
    "$folder/bin/pip" install --constraint constraints.txt "$@" | sed -u '/^Requirement already satisfied/d'
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
        install "$folder" --no-deps --quiet "torch==$version+cpu" 2>/dev/null && return
        install "$folder" --no-deps --timeout 20 --retries 1 --index-url "$CPU_INDEX" "torch==$version+cpu" && return
        say "$CPU_INDEX does not answer: taking PyPI's build, with CUDA, several GB"
    elif [ "$TORCH" != gpu ]; then
        fail "TORCH is '$TORCH': cpu or gpu"
    fi
    install "$folder" "torch==$version"
}

check_libpython() {
    local folder=$1 version
    version=$("$folder/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ "$version" = 3.13 ] && return # comes with the wheel
    "$folder/bin/python" -c "import ctypes; ctypes.CDLL('libpython$version.so.1.0')" 2>/dev/null ||
        fail "libpython$version.so.1.0, which Triton's Python backend links to, is missing:" \
            "sudo apt-get install libpython$version"
}

case ${1:-} in
platform)
    make_environment .venv
    say "packages of the platform (some 280, 2.6 GB on disk; minutes the first time)"
    install_torch .venv
    install .venv --editable '.[dev]'
    ;;
server)
    make_environment .venv-server
    check_libpython .venv-server
    say "packages of the model server"
    # Without its dependencies, for the reason that the requirements file gives; hence the conflicts not to warn about.
    install .venv-server --no-warn-conflicts --requirement ops/server-requirements.txt
    install .venv-server --no-deps nvidia-pytriton
    ;;
*)
    fail "which environment: platform or server?"
    ;;
esac
