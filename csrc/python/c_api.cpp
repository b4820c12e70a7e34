#include "quantstats/capi.h"

#include <cstring>
#include <string>

#include "python/target.hpp"

namespace qs::python {

namespace py = pybind11;

void register_c_api(py::module_& module) {
  const quantstats_capi* api = nullptr;
  if (quantstats_get_capi(QUANTSTATS_CAPI_VERSION, sizeof(quantstats_capi), &api) != QUANTSTATS_OK) {
    throw py::import_error(std::string("the C interface of quantstats: ") + quantstats_last_error());
  }
  // A program may have loaded the libquantstats of another release before Python did.
  if (std::strcmp(api->package_version(), QS_VERSION) != 0) {
    throw py::import_error(std::string("this process has loaded libquantstats ") + api->package_version() +
                           ", but quantstats._core belongs to " + QS_VERSION + "; use one release of both");
  }
  module.attr("_C_API") = py::capsule(api, QUANTSTATS_CAPI_NAME);
}

}  // namespace qs::python
