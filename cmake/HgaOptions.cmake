# Compiler warnings, sanitizers and the compiler cache, in one interface target.
add_library(hga_options INTERFACE)
target_compile_options(hga_options INTERFACE -Wall -Wextra -Wno-unused-parameter
  -ffp-contract=off -fno-math-errno)
target_compile_definitions(hga_options INTERFACE _GLIBCXX_ASSERTIONS)
if(HGA_SANITIZE)
  add_compile_options(-fsanitize=${HGA_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${HGA_SANITIZE})
endif()
find_program(HGA_CCACHE ccache)
if(HGA_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${HGA_CCACHE})
endif()
