# Flags every target of the project shares: warnings, hardening, sanitizers.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(rnbd_flags INTERFACE)
target_compile_options(rnbd_flags INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast -Wnon-virtual-dtor
  -Woverloaded-virtual -Wnull-dereference -Wformat=2 -Wimplicit-fallthrough -Wundef)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports null dereferences and dangling pointers inside inlined std code when it optimises.
  target_compile_options(rnbd_flags INTERFACE -Wno-null-dereference -Wno-restrict -Wno-array-bounds
    -Wno-stringop-overflow -Wno-maybe-uninitialized)
endif()
option(RNBD_WERROR "Warnings are errors" ON)
if(RNBD_WERROR)
  target_compile_options(rnbd_flags INTERFACE -Werror)
endif()
target_include_directories(rnbd_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
target_compile_definitions(rnbd_flags INTERFACE RNBD_VERSION="${PROJECT_VERSION}")

if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  target_compile_definitions(rnbd_flags INTERFACE _GLIBCXX_ASSERTIONS)
endif()
if(RNBD_SANITIZE)
  target_compile_options(rnbd_flags INTERFACE -fsanitize=${RNBD_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(rnbd_flags INTERFACE -fsanitize=${RNBD_SANITIZE})
elseif(CMAKE_BUILD_TYPE MATCHES "Release|RelWithDebInfo")
  target_compile_options(rnbd_flags INTERFACE -fstack-protector-strong -fcf-protection
    -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
  target_link_options(rnbd_flags INTERFACE -pie -Wl,-z,relro,-z,now,-z,noexecstack)
endif()
if(RNBD_COVERAGE)
  target_compile_options(rnbd_flags INTERFACE --coverage)
  target_link_options(rnbd_flags INTERFACE --coverage)
endif()
# For the proof that the simulator notices a missing safety rule: see src/base/mutation.h.
option(RNBD_MUTATIONS "Safety rules can be switched off (never in a program that is used)" OFF)
if(RNBD_MUTATIONS)
  target_compile_definitions(rnbd_flags INTERFACE RNBD_MUTATIONS)
endif()
