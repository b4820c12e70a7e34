#include "python/dlpack.hpp"

#include <pybind11/pybind11.h>

#include <cstring>
#include <string>
#include <vector>

namespace qs::python {
namespace {

// The ABI of DLPack 1, and of the capsules from before it had versions.
struct DLDevice {
  int32_t type;
  int32_t id;
};

struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: C order
  uint64_t byte_offset;
};

struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};

struct DLManagedTensorVersioned {
  uint32_t major;
  uint32_t minor;
  void* context;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor tensor;
};

// What types offer as __dlpack_c_exchange_api__ (DLPack 1.3): the exchange without calls of Python functions.
struct DLPackExchangeApi {
  uint32_t major;
  uint32_t minor;
  DLPackExchangeApi* earlier;
  void* allocate;
  int (*managed_tensor_from_object)(void* object, DLManagedTensorVersioned** out);
};

constexpr uint64_t kReadOnly = 1;
constexpr uint32_t kMajor = 1;

enum DeviceType : int32_t { kCpu = 1, kCudaHost = 3, kRocmHost = 11, kCudaManaged = 13 };
enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };

const char* device_name(int32_t type) {
  switch (type) {
    case 2:
      return "CUDA";
    case 4:
      return "OpenCL";
    case 7:
      return "Vulkan";
    case 8:
      return "Metal";
    case 10:
      return "ROCm";
    case 14:
      return "oneAPI";
    case 15:
      return "WebGPU";
    case 16:
      return "Hexagon";
    case 17:
      return "MAIA";
    default:
      return nullptr;
  }
}

// The CPU reads memory of the host that is pinned or shared for a device as any other.
bool readable(int32_t device) {
  return device == kCpu || device == kCudaHost || device == kRocmHost || device == kCudaManaged;
}

[[noreturn]] void refuse(py::handle x, const char* argument, const std::string& why) {
  throw py::type_error(std::string(argument) + " is a " + type_name_of(x) + " " + why);
}

void check_device(py::handle x, const char* argument, const DLDevice& device) {
  if (readable(device.type)) return;
  const char* const known = device_name(device.type);
  const std::string name = known != nullptr ? known : "DLPack type " + std::to_string(device.type);
  refuse(x, argument,
         "on device " + name + ":" + std::to_string(device.id) +
             "; the kernels read the memory of the CPU, so copy it there first, for example with " + argument +
             ".cpu()");
}

// An attribute, null if there is none. The names are made once: a small array is read in less time than that takes.
py::object attribute(py::handle x, PyObject* name) {
  PyObject* const found = PyObject_GetAttr(x.ptr(), name);
  if (found == nullptr) PyErr_Clear();
  return py::reinterpret_steal<py::object>(found);
}

PyObject* interned(const char* name) {
  PyObject* const made = PyUnicode_InternFromString(name);
  if (made == nullptr) throw py::error_already_set();
  return made;
}

// torch.Tensor, or a type made of it.
bool is_torch(py::handle x) {
  const py::handle bases(Py_TYPE(x.ptr())->tp_mro);
  for (const py::handle base : py::reinterpret_borrow<py::tuple>(bases)) {
    if (std::strcmp(reinterpret_cast<PyTypeObject*>(base.ptr())->tp_name, "Tensor") != 0) continue;
    if (py::str(base.attr("__module__")).cast<std::string>() == "torch") return true;
  }
  return false;
}

// What torch.Tensor hands out without a word, or with one that does not name the argument.
void check_deferred(py::handle x, const char* argument) {
  static PyObject* const dispatch = interned("__torch_dispatch__");
  const py::object own = attribute(reinterpret_cast<PyObject*>(Py_TYPE(x.ptr())), dispatch);
  // Of torch.Tensor itself it is a function in C, of a type with operations of its own a method.
  if (own && PyCFunction_Check(own.ptr()) == 0) {
    refuse(x, argument,
           "whose type computes by its own __torch_dispatch__, so that its memory need not hold its values; pass a "
           "plain torch.Tensor of them");
  }
  static PyObject* const requires_grad = interned("requires_grad");
  static PyObject* const is_neg = interned("is_neg");
  if (attribute(x, requires_grad).ptr() == Py_True) {
    refuse(x, argument, std::string("that requires gradients; pass ") + argument + ".detach()");
  }
  const py::object negated = attribute(x, is_neg);
  if (negated && PyCallable_Check(negated.ptr()) != 0 && negated().is(py::bool_(true))) {
    refuse(x, argument, std::string("whose memory holds the negated values; pass ") + argument + ".resolve_neg()");
  }
}

// Replaces the exception in flight, which is the owner's, by one that names the argument.
[[noreturn]] void refuse_with_cause(py::handle x, const char* argument, py::error_already_set& cause) {
  const std::string reason = py::str(cause.value()).cast<std::string>();
  const std::string text =
      std::string(argument) + " is a " + type_name_of(x) + " that does not share its memory: " + reason;
  py::raise_from(cause, PyExc_TypeError, text.c_str());
  throw py::error_already_set();
}

py::dtype numpy_dtype(py::handle x, const char* argument, const DLDataType& type, bool* bfloat16) {
  *bfloat16 = type.code == kBfloat && type.bits == 16;
  if (type.lanes == 1) {
    if (*bfloat16) return py::dtype::of<uint16_t>();
    const char kind = type.code == kFloat                    ? 'f'
                      : type.code == kInt                    ? 'i'
                      : type.code == kUInt                   ? 'u'
                      : type.code == kBool && type.bits == 8 ? 'b'
                                                             : '\0';
    const bool whole = type.bits == 8 || type.bits == 16 || type.bits == 32 || type.bits == 64;
    if (kind != '\0' && whole && !(kind == 'f' && type.bits == 8)) {
      return py::dtype(std::string(1, kind) + std::to_string(type.bits / 8));
    }
  }
  refuse(x, argument,
         "whose elements (DLPack type " + std::to_string(type.code) + " of " + std::to_string(type.bits) + " bits, " +
             std::to_string(type.lanes) + " lanes) no kernel reads; convert it, for example to float32");
}

// Owns what a capsule holds until the last array that shares it is gone.
template <class Managed>
void release(PyObject* capsule) {
  auto* const managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, nullptr));
  if (managed->deleter != nullptr) managed->deleter(managed);
}

template <class Managed>
py::object owner_of(Managed* managed) {
  PyObject* const owner = PyCapsule_New(managed, nullptr, release<Managed>);
  if (owner == nullptr) {
    if (managed->deleter != nullptr) managed->deleter(managed);
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::object>(owner);
}

template <class Managed>
py::object take_over(const py::capsule& capsule, const char* used_name, Managed** managed) {
  *managed = static_cast<Managed*>(capsule.get_pointer());
  // From here on the capsule's own destructor leaves the memory alone.
  if (PyCapsule_SetName(capsule.ptr(), used_name) != 0) throw py::error_already_set();
  return owner_of(*managed);
}

SharedArray share(py::handle x, const char* argument, const DLTensor& tensor, const py::object& owner, bool read_only) {
  check_device(x, argument, tensor.device);
  bool bfloat16 = false;
  const py::dtype dtype = numpy_dtype(x, argument, tensor.dtype, &bfloat16);
  const auto item = dtype.itemsize();
  const std::vector<py::ssize_t> shape(tensor.shape, tensor.shape + tensor.ndim);
  std::vector<py::ssize_t> strides(shape.size());
  py::ssize_t stride = item;
  bool empty = false;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = tensor.strides != nullptr ? tensor.strides[i] * item : stride;
    stride *= shape[i];
    empty = empty || shape[i] == 0;
  }
  if (empty) return {py::array(dtype, shape), bfloat16};
  py::array array(dtype, shape, strides, static_cast<char*>(tensor.data) + tensor.byte_offset, owner);
  if (read_only) array.attr("setflags")(py::arg("write") = false);
  return {std::move(array), bfloat16};
}

// By the functions that the type offers; null if it offers none, or they fail: the way by methods then tells why.
DLManagedTensorVersioned* exchanged(py::handle x) {
  static PyObject* const name = interned("__dlpack_c_exchange_api__");
  const py::object capsule = attribute(reinterpret_cast<PyObject*>(Py_TYPE(x.ptr())), name);
  if (!capsule || PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api") == 0) return nullptr;
  const auto* api = static_cast<const DLPackExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  while (api != nullptr && api->major != kMajor) api = api->earlier;
  if (api == nullptr) return nullptr;
  DLManagedTensorVersioned* managed = nullptr;
  if (api->managed_tensor_from_object(x.ptr(), &managed) != 0) {
    PyErr_Clear();
    return nullptr;
  }
  return managed;
}

py::object exported(py::handle x) {
  // Older owners know no keywords.
  try {
    return x.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(kMajor, 0), py::arg("copy") = false);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return x.attr("__dlpack__")();
}

}  // namespace

std::string type_name_of(py::handle x) {
  const py::handle type = py::type::handle_of(x);
  const auto name = type.attr("__qualname__").cast<std::string>();
  const py::object module = type.attr("__module__");
  if (!py::isinstance<py::str>(module) || module.cast<std::string>() == "builtins") return name;
  return module.cast<std::string>() + "." + name;
}

bool speaks_dlpack(py::handle x) {
  static PyObject* const export_name = interned("__dlpack__");
  static PyObject* const device_name = interned("__dlpack_device__");
  return attribute(x, export_name) && attribute(x, device_name);
}

SharedArray from_dlpack(py::handle x, const char* argument) {
  check_deferred(x, argument);
  if (DLManagedTensorVersioned* const managed = exchanged(x); managed != nullptr) {
    return share(x, argument, managed->tensor, owner_of(managed), (managed->flags & kReadOnly) != 0);
  }
  py::object given;
  try {
    const auto device = x.attr("__dlpack_device__")().cast<std::pair<int32_t, int32_t>>();
    check_device(x, argument, {device.first, device.second});
    given = exported(x);
  } catch (py::error_already_set& error) {
    refuse_with_cause(x, argument, error);
  }
  if (PyCapsule_IsValid(given.ptr(), "dltensor_versioned") != 0) {
    const auto capsule = given.cast<py::capsule>();
    DLManagedTensorVersioned* managed = nullptr;
    const py::object owner = take_over(capsule, "used_dltensor_versioned", &managed);
    if (managed->major != kMajor) {
      refuse(x, argument,
             "that shares its memory by version " + std::to_string(managed->major) +
                 " of DLPack; upgrade quantstats-native, or convert it to a NumPy array");
    }
    return share(x, argument, managed->tensor, owner, (managed->flags & kReadOnly) != 0);
  }
  if (PyCapsule_IsValid(given.ptr(), "dltensor") != 0) {
    const auto capsule = given.cast<py::capsule>();
    DLManagedTensor* managed = nullptr;
    const py::object owner = take_over(capsule, "used_dltensor", &managed);
    // Such capsules cannot tell what is read-only, so, as for NumPy, everything is -- but the tensors of torch.
    return share(x, argument, managed->tensor, owner, !is_torch(x));
  }
  refuse(x, argument, "whose __dlpack__() gives no DLPack capsule; convert it to a NumPy array");
}

}  // namespace qs::python
