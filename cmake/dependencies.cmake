# Every library from outside, in one place. `cajal_base_dependencies` needs no torch.
find_package(Threads REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(ZLIB REQUIRED)
find_package(LibLZMA REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
find_package(CURL)
find_package(fmt REQUIRED)

# Imported, so that the installed package makes them again by including this same file.
add_library(cajal_base_dependencies INTERFACE IMPORTED GLOBAL)
target_link_libraries(cajal_base_dependencies INTERFACE
  Threads::Threads nlohmann_json::nlohmann_json fmt::fmt ZLIB::ZLIB LibLZMA::LibLZMA
  SQLite::SQLite3 PkgConfig::PCRE2 PkgConfig::HWY PkgConfig::UTF8PROC)
if(CURL_FOUND)
  target_link_libraries(cajal_base_dependencies INTERFACE CURL::libcurl)
  target_compile_definitions(cajal_base_dependencies INTERFACE CAJAL_CURL)
endif()

option(CAJAL_TORCH "build everything that needs libtorch" ON)
if(CAJAL_TORCH)
  find_package(Torch REQUIRED)
  add_library(cajal_torch_dependencies INTERFACE IMPORTED GLOBAL)
  target_link_libraries(cajal_torch_dependencies INTERFACE ${TORCH_LIBRARIES})
  target_include_directories(cajal_torch_dependencies SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
  separate_arguments(torch_flags UNIX_COMMAND "${TORCH_CXX_FLAGS}")
  target_compile_options(cajal_torch_dependencies INTERFACE ${torch_flags})
endif()
