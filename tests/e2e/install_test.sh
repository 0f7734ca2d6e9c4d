#!/usr/bin/env bash
#
# install_test.sh - what `cmake --install` leaves behind can be used by somebody else's build.
#
# Installs the build under test into a scratch prefix, then builds every example against that tree
# alone, once found by pkg-config and once by CMake.

set -uo pipefail

passed=0
failed=0
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
prefix=$scratch/prefix
trap 'rm -rf "$scratch"' EXIT

# check NAME COMMAND...: one test; its output is shown only if it fails.
check() {
	local name=$1 out
	shift

	if out=$("$@" 2>&1); then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		printf '%s failed:\n%s\n' "$name" "$out"
	fi
}

if grep -q '^ELOQ_SANITIZE:[A-Z]*=.' "$ELOQ_BUILD_DIR/CMakeCache.txt"; then
	echo "skipped: a library with sanitizers is not for others"
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
fi

install_tree() {
	cmake --install "$ELOQ_BUILD_DIR" --prefix "$prefix" || return 1
	libdir=$(dirname "$(find "$prefix" -name libeloqclient.so.0)")
	[[ -f $libdir/libeloqclient.a && -f $prefix/include/eloqclient.h ]]
}

programs_start() {
	"$prefix/bin/eloqctl" --help && "$prefix/bin/eloqstored" --help
}

only_our_names_are_exported() {
	local names

	names=$(nm -D --defined-only "$libdir/libeloqclient.so" | awk '$2 != "A" { print $3 }')
	[[ -n $names ]] || return 1
	! grep -vE '^(eloq|eloqstore)_' <<<"$names"
}

no_allocator_comes_with_the_library() {
	! ldd "$libdir/libeloqclient.so" | grep jemalloc
}

examples_build_by_pkg_config() {
	local example flags

	flags=$(PKG_CONFIG_PATH=$libdir/pkgconfig pkg-config --cflags --libs eloqclient) || return 1
	for example in "$source_dir"/client/examples/*.c; do
		# shellcheck disable=SC2086 # flags are words
		cc -std=gnu17 -D_GNU_SOURCE "$example" -o "$scratch/example" $flags || return 1
		LD_LIBRARY_PATH=$libdir ldd "$scratch/example" | grep "$libdir/libeloqclient.so.0" || return 1
	done
}

examples_build_by_cmake() {
	cat >"$scratch/CMakeLists.txt" <<-END
		cmake_minimum_required(VERSION 3.25)
		project(user C)
		find_package(eloqclient REQUIRED)
		file(GLOB examples $source_dir/client/examples/*.c)
		foreach(example IN LISTS examples)
			get_filename_component(name \${example} NAME_WE)
			foreach(kind eloqclient eloqclient_static)
				add_executable(\${name}-\${kind} \${example})
				target_compile_definitions(\${name}-\${kind} PRIVATE _GNU_SOURCE)
				target_link_libraries(\${name}-\${kind} PRIVATE eloqclient::\${kind})
			endforeach()
		endforeach()
	END
	cmake -S "$scratch" -B "$scratch/build" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" &&
		cmake --build "$scratch/build"
}

check install install_tree
libdir=$(dirname "$(find "$prefix" -name libeloqclient.so.0)")
check programs_start programs_start
check only_our_names_are_exported only_our_names_are_exported
check no_allocator_comes_with_the_library no_allocator_comes_with_the_library
check examples_build_by_pkg_config examples_build_by_pkg_config
check examples_build_by_cmake examples_build_by_cmake

echo "$passed passed, $failed failed, 0 skipped"
[[ $failed -eq 0 ]]
