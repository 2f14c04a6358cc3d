# Third-party libraries, all from the distribution's packages.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
# The server's: headers alone of Boost (Asio, Beast).
find_package(Boost 1.81 REQUIRED)
find_package(OpenSSL REQUIRED)
# The pictures of `heddle needle`.
pkg_check_modules(PNG REQUIRED IMPORTED_TARGET libpng)
if(HEDDLE_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
