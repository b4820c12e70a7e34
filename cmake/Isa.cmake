# qs_add_isa(<name> [compile options...])
#
# Compiles csrc/targets/<name>.cpp once per kernel family with the options that enable the instruction set, into the object
# libraries qs_<name>_<family>. What exists is decided here, by the build: the dispatcher learns it from QS_BUILT_<name>.
#
# -ffp-contract=off    a product and a sum are rounded separately unless the kernel says fma(): the same bits on every ISA
# -fno-lto             no optimiser may merge an AVX-512 copy of an inline function with the baseline copy
# -fno-exceptions ...  the kernels are noexcept and use no run-time type information
function(qs_add_isa name)
  set(targets ${QS_ISA_TARGETS})
  foreach(family IN LISTS QS_FAMILIES)
    set(target qs_${name}_${family})
    add_library(${target} OBJECT ${PROJECT_SOURCE_DIR}/csrc/targets/${name}.cpp)
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/csrc)
    target_compile_definitions(${target} PRIVATE
      QS_FAMILY=${family} QS_FAMILY_${family}=1 QS_FAMILY_FILE="kernels/${family}.inl.h")
    target_compile_options(${target} PRIVATE
      ${ARGN} -O3 -ffp-contract=off -fno-lto -fno-math-errno -fno-exceptions -fno-rtti
      -fno-asynchronous-unwind-tables -Wno-unused-function)
    set_target_properties(${target} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
    list(APPEND targets ${target})
  endforeach()
  set(QS_ISA_TARGETS ${targets} PARENT_SCOPE)
  set(QS_ISA_DEFINITIONS ${QS_ISA_DEFINITIONS} QS_BUILT_${name}=1 PARENT_SCOPE)
endfunction()
