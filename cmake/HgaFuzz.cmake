# libFuzzer targets: each tests/fuzz/*_fuzz.cc is one program; `fuzzers` builds them all, with the
# parser rooms only, of the store what reads bytes without a disk, of the engine constraints and the
# sampler, and of the server what reads requests without a network.
file(GLOB constraints CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/engine/constraint*.cc)
set(request_readers ${CMAKE_SOURCE_DIR}/apps/common/utf8.cc)
foreach(name http_head json api_error fields common_request chat_request chat_messages completion_request)
  list(APPEND request_readers ${CMAKE_SOURCE_DIR}/apps/server/${name}.cc)
endforeach()
add_library(hga_parsers STATIC EXCLUDE_FROM_ALL
  $<TARGET_OBJECTS:hga_room_base> $<TARGET_OBJECTS:hga_room_model>
  ${CMAKE_SOURCE_DIR}/src/store/digest.cc ${CMAKE_SOURCE_DIR}/src/store/identity.cc
  ${CMAKE_SOURCE_DIR}/src/store/index_entry.cc ${CMAKE_SOURCE_DIR}/src/store/manifest.cc
  ${CMAKE_SOURCE_DIR}/src/store/record.cc ${constraints}
  ${CMAKE_SOURCE_DIR}/src/engine/tool_calls.cc ${CMAKE_SOURCE_DIR}/src/engine/sampler.cc
  ${request_readers})
set_target_properties(hga_parsers PROPERTIES LINKER_LANGUAGE CXX)
target_include_directories(hga_parsers PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include
  ${CMAKE_SOURCE_DIR}/src ${CMAKE_BINARY_DIR}/generated)
target_link_libraries(hga_parsers PUBLIC hga_options fmt::fmt Threads::Threads
  simdjson::simdjson nlohmann_json::nlohmann_json PkgConfig::PCRE2 PkgConfig::UTF8PROC
  PkgConfig::XXHASH PkgConfig::CRYPTO)
add_custom_target(fuzzers)
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/*_fuzz.cc)
foreach(source ${sources})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} EXCLUDE_FROM_ALL ${source})
  target_link_libraries(${name} PRIVATE hga_parsers)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  add_dependencies(fuzzers ${name})
endforeach()
