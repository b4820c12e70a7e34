#include <string>

#include "parallel/spread.h"
#include "python/arrays.hpp"
#include "python/target.hpp"

namespace qs::python {
namespace {

py::tuple certify_pairs(const Target& self, const py::array_t<int8_t, 0>& rows, int positive_limit, int negative_limit,
                        bool any_pairs, bool count) {
  if (rows.ndim() != 2 || rows.size() == 0 || (rows.strides(0) != 1 && rows.strides(1) != 1)) {
    throw py::value_error("rows has shape " + py::str(rows.attr("shape")).cast<std::string>() +
                          "; pass a matrix that is contiguous along one axis");
  }
  // A sum of magnitudes is 254 at most for positive weights and 256 for negative ones, which bytes hold as 255.
  if (positive_limit < 128 || negative_limit < 128 || negative_limit == 255) {
    throw py::value_error("the limits are " + std::to_string(positive_limit) + " and " +
                          std::to_string(negative_limit) + "; pass those of a u_max of 1 to 255");
  }
  const int64_t n = rows.shape(0);
  py::array_t<int32_t> positive(n), negative(n);
  py::array_t<int64_t> positions({n, int64_t{2}});
  py::object at_risk = py::none();
  int64_t* counts = nullptr;
  if (count) {
    py::array_t<int64_t> array(n);
    counts = array.mutable_data();
    at_risk = std::move(array);
  }
  const PairArguments all{reinterpret_cast<const char*>(rows.data()),
                          n,
                          rows.shape(1),
                          rows.strides(0),
                          rows.strides(1),
                          positive_limit,
                          negative_limit,
                          any_pairs,
                          positive.mutable_data(),
                          negative.mutable_data(),
                          positions.mutable_data(),
                          counts};
  const SpreadPairs spread(all);
  void* const memory = scratch(spread.scratch_bytes());
  {
    MaybeReleaseGil release(rows.nbytes());
    spread.run(self.kernels().certify->certify_pairs, memory);
  }
  return py::make_tuple(positive, negative, positions, at_risk);
}

}  // namespace

void register_certify(TargetClass& target) {
  target.def("certify_pairs", &certify_pairs, py::arg("rows"), py::arg("positive_limit"), py::arg("negative_limit"),
             py::arg("any_pairs"), py::arg("count"), py::pos_only());
}

}  // namespace qs::python
