#!/bin/sh
# Builds the core with a sanitizer of the compiler and runs tests of it: make sanitize.
#
#     sh tools/sanitize.sh address,undefined tests/test_engine.py ...
#     sh tools/sanitize.sh thread tests/test_core_safety.py ...
#
# A report ends the run with an error. PYTHON is the interpreter, of an environment with what the
# build and the tests need. GCC, on Linux.
set -eu

kind=$1
shift
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
here=$root/build/sanitize-$(echo "$kind" | tr , -)
mkdir -p "$root/build"

# CMake and Ninja stand beside the interpreter; it tells where nanobind is.
PATH=$(dirname "$(command -v "$python")"):$PATH
export PATH
cmake -S "$root" -B "$here" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DRANEF_SANITIZE="$kind" -DSKBUILD_PROJECT_NAME=ranef -DSKBUILD_PROJECT_VERSION=0 \
    -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dnanobind_DIR="$("$python" -m nanobind --cmake_dir)" >"$here.log" ||
    { cat "$here.log"; exit 1; }
cmake --build "$here" -j "${JOBS:-2}"

# The package beside the core just built, in front of any that is installed.
rm -rf "$here/package"
mkdir -p "$here/package"
cp -r "$root/src/ranef" "$here/package/ranef"
rm -f "$here/package/ranef"/_core*.so
cp "$here"/_core*.so "$here/package/ranef/"

# The runtime must be loaded before Python; exceptions cross it, so the C++ library too. What
# Python itself never frees is no leak of the core. Calls that ask for more memory than there is
# must come back as they do without a sanitizer.
case $kind in
*thread*) runtime=libtsan.so ;;
*) runtime=libasan.so ;;
esac
LD_PRELOAD="$(gcc -print-file-name=$runtime) $(gcc -print-file-name=libstdc++.so)"
ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:exitcode=66
UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
TSAN_OPTIONS="exitcode=66:suppressions=$root/tools/tsan.txt"
export ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS
export PYTHONPATH="$here/package" OPENBLAS_NUM_THREADS=1 RANEF_SANITIZED=$kind
LD_PRELOAD=$LD_PRELOAD "$python" -m pytest -q -p no:cacheprovider "$@"
echo "no report of $kind"
