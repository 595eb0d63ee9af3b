# For the scripts beside this file: finds Python interpreters, also those that a version
# manager keeps off PATH. Sourced by bash.

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# find_python 3.12: prints the path of a Python 3.12, or nothing.
#
# One whose sqlite3 can load extensions is taken first, since SpatiaLite needs that; many
# builds by version managers cannot. A name on PATH may be a shim that only fails, so
# each candidate is tried.
find_python() {
    local candidate second=
    while read -r candidate; do
        case $("$candidate" -c "$PYTHON_ABILITIES" 2>/dev/null || true) in
            "$1 extensions") echo "$candidate" && return ;;
            "$1 plain") second=${second:-$candidate} ;;
        esac
    done < <(
        type -ap "python$1" "python3" || true
        compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1.*/bin/python$1" || true
        compgen -G "$HOME/.pyenv/versions/$1.*/bin/python$1" || true
        compgen -G "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}/cpython-$1.*/bin/python$1" || true
    )
    [ -z "$second" ] || echo "$second"
}

PYTHON_ABILITIES='
import sqlite3, ssl, sys
loads = hasattr(sqlite3.Connection, "enable_load_extension")
print("%d.%d" % sys.version_info[:2], "extensions" if loads else "plain")
'
