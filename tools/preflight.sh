#!/bin/sh
# Checks that this machine can build ranef and prints the Python to use on
# standard output. When something is missing it says what, and the one line
# that installs it, on standard error, and exits with 1.
#
# PYTHON selects the interpreter; otherwise the first of python3, python3.14,
# python3.13, python3.12, python3.11 that is new enough is taken.
set -u

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" >/dev/null 2>&1 && new_enough "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

find_compiler() {
    for candidate in ${CXX:-c++ g++ clang++}; do
        if command -v "$candidate" >/dev/null 2>&1; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

# Debian names the packages of the default Python python3-venv and python3-dev,
# those of another one python3.12-venv and so on.
package_stem() {
    version=$("$1" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    default=$(readlink -f /usr/bin/python3 2>/dev/null || echo none)
    if [ "$(basename "$default")" = "$version" ]; then echo python3; else echo "$version"; fi
}

problems=""
packages=""
missing() {
    problems="$problems
  - $1"
    packages="$packages $2"
}

if python=$(find_python); then
    stem=$(package_stem "$python")
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        missing "$python cannot make virtual environments (venv, ensurepip)" "$stem-venv"
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -e "$headers/Python.h" ] ||
        missing "the headers of $python (Python.h) are not installed" "$stem-dev"
else
    missing "no Python 3.11 or later (${PYTHON:-python3}); PYTHON=... selects another" \
        "python3 python3-venv python3-dev"
fi

if compiler=$(find_compiler); then
    scratch=$(mktemp -d) || exit 1
    trap 'rm -rf "$scratch"' EXIT
    printf '#include <thread>\n#include <vector>\nint main() { return std::vector<int>{}.size(); }\n' \
        >"$scratch/probe.cpp"
    "$compiler" -std=c++17 -c "$scratch/probe.cpp" -o "$scratch/probe.o" 2>/dev/null ||
        missing "$compiler cannot compile a small C++17 program" "g++"
else
    missing "no C++ compiler (c++, g++ or clang++; CXX=... selects another)" "g++"
fi

if [ -n "$problems" ]; then
    {
        printf 'This machine lacks what ranef needs to be built:%s\n\n' "$problems"
        if command -v apt-get >/dev/null 2>&1; then
            sudo=$([ "$(id -u)" = 0 ] || echo "sudo ")
            printf 'This line helps:\n\n  %sapt-get update && %sapt-get install -y%s\n\n' \
                "$sudo" "$sudo" "$packages"
        elif [ "$(uname -s)" = Darwin ]; then
            printf 'These lines help:\n\n  xcode-select --install\n  brew install python\n\n'
        else
            printf 'Install a C++ compiler and Python 3.11 or later with its headers.\n\n'
        fi
    } >&2
    exit 1
fi

echo "$python"
