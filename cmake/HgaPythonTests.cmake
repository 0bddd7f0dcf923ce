# Python tests as ctest tests: tests/{e2e,tidy,golden,...}/test_*.py, labelled with their folder.
# HGA_PYTHON in the environment at run time names the interpreter; HGA_CLI is the program under test.
foreach(kind unit conformance golden fault e2e tidy)
  file(GLOB scripts CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${kind}/test_*.py)
  foreach(script ${scripts})
    get_filename_component(name ${script} NAME_WE)
    get_filename_component(folder ${script} DIRECTORY)
    add_test(NAME ${kind}.${name} COMMAND sh -c
      "exec \"\${HGA_PYTHON:-python3}\" -m unittest discover -v -s \"$1\" -p \"$2\""
      sh ${folder} ${name}.py)
    set(labels ${kind})
    if(name MATCHES "malformed|checkpoints")
      list(APPEND labels badinput)  # these run under the sanitizers too
    endif()
    set_tests_properties(${kind}.${name} PROPERTIES LABELS "${labels}" TIMEOUT 900
      FAIL_REGULAR_EXPRESSION "Ran 0 tests"
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
      ENVIRONMENT "HGA_CLI=$<TARGET_FILE:hga_cli>;HGA_BUILD_DIR=${CMAKE_BINARY_DIR}")
  endforeach()
endforeach()

# Small programs that Python tests drive, in the build folder's tests/.
file(GLOB drivers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/e2e/*_driver.cc
     ${CMAKE_SOURCE_DIR}/tests/fault/*_driver.cc)
foreach(driver ${drivers})
  get_filename_component(name ${driver} NAME_WE)
  add_executable(${name} ${driver})
  target_link_libraries(${name} PRIVATE hga_core)
endforeach()
