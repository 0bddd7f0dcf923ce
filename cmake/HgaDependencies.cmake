# Every third-party library, found here and nowhere else (Debian package names in tools/install-deps.sh).
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(simdjson REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(EDIT REQUIRED IMPORTED_TARGET libedit)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(URING REQUIRED IMPORTED_TARGET liburing)
# SHA-256 only.
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
# The server: Beast and Asio (headers only), and the text format of its metrics.
find_package(Boost 1.81 REQUIRED)
pkg_check_modules(PROMETHEUS REQUIRED IMPORTED_TARGET prometheus-cpp-core)
# The measured roof of float32 matrix products in `hga bench` and bench/; kernels do not call it.
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
# Writes the manual page.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
