#include <string>

#include "parallel/spread.h"
#include "python/arrays.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

py::array matrix(py::handle x, const char* argument, char kind, const char* dtype) {
  const std::string wanted = std::string("a matrix of ") + dtype;
  const ArrayArgument given = array_argument(x, argument, wanted.c_str());
  const py::array& array = given.array;
  if (given.bfloat16 || array.dtype().kind() != kind || array.itemsize() != 1) {
    throw py::type_error(given.describe() + " has another dtype; pass " + wanted);
  }
  if (array.ndim() != 2) {
    throw py::value_error(given.describe() + " has " + std::to_string(array.ndim()) + " dimensions; pass " + wanted);
  }
  return array;
}

py::object saturating_matmul(const Target& self, py::handle a_u8, py::handle b_s8, bool return_count) {
  const py::array a = matrix(a_u8, "a_u8", 'u', "uint8"), b = matrix(b_s8, "b_s8", 'i', "int8");
  if (a.shape(1) != b.shape(0)) {
    throw py::value_error("a_u8 has " + std::to_string(a.shape(1)) + " columns and b_s8 has " +
                          std::to_string(b.shape(0)) + " rows; pass a_u8 [M, K] and b_s8 [K, N]");
  }
  py::array_t<int32_t> result({a.shape(0), b.shape(1)});
  if (a.shape(1) == 0) result.attr("fill")(0);
  int64_t count = 0;
  if (result.size() > 0 && a.shape(1) > 0) {
    const SaturatingProduct product{static_cast<const char*>(a.data()),
                                    a.strides(0),
                                    a.strides(1),
                                    static_cast<const char*>(b.data()),
                                    b.strides(0),
                                    b.strides(1),
                                    result.mutable_data(),
                                    b.shape(1),
                                    a.shape(0),
                                    a.shape(1),
                                    b.shape(1)};
    const SpreadProduct spread(product);
    void* memory = scratch(spread.scratch_bytes());
    MaybeReleaseGil release(a.nbytes() * b.shape(1));
    count = spread.run(self.kernels().saturate->saturating_matmul, return_count, memory);
  }
  if (return_count) return py::make_tuple(result, count);
  return std::move(result);
}

}  // namespace

void register_saturate(TargetClass& target) {
  target.def("saturating_matmul", &saturating_matmul, py::arg("a_u8"), py::arg("b_s8"),
             py::arg("return_count").noconvert());
}

}  // namespace qs::python
