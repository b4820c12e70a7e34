// Methods of Target without pybind11's dispatcher, which costs more than a kernel on a small array: it builds argument
// tuples, looks for overloads and tries conversions. These take positional arguments alone; quantstats.kernels gives
// them names and defaults.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

#include "python/target.hpp"

namespace qs::python {

namespace detail {

// Raises the Python exception that the C++ exception in flight stands for.
inline void raise_current() noexcept {
  try {
    throw;
  } catch (pybind11::error_already_set& error) {
    error.restore();
  } catch (const pybind11::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
}

template <auto function>
struct FastMethod;

template <class Result, class... Arguments, Result (*function)(const Target&, Arguments...)>
struct FastMethod<function> {
  static constexpr Py_ssize_t count = sizeof...(Arguments);
  static inline std::string doc;
  static inline PyMethodDef definition{};

  static PyObject* call(PyObject* self, PyObject* const* arguments, Py_ssize_t given) noexcept {
    if (given != count) {
      return PyErr_Format(PyExc_TypeError, "%s() takes %zd positional arguments but %zd were given", definition.ml_name,
                          count, given);
    }
    // A method of the class is called with an instance of it, which holds a Target and nothing else.
    auto* const instance = reinterpret_cast<pybind11::detail::instance*>(self);
    const auto* const target = static_cast<const Target*>(instance->get_value_and_holder().value_ptr());
    try {
      return invoke(*target, arguments, std::index_sequence_for<Arguments...>()).release().ptr();
    } catch (...) {
      raise_current();
      return nullptr;
    }
  }

 private:
  template <size_t... i>
  static pybind11::object invoke(const Target& target, PyObject* const* arguments, std::index_sequence<i...>) {
    static_assert((std::is_same_v<Arguments, pybind11::handle> && ...), "a fast method takes handles");
    return function(target, pybind11::handle(arguments[i])...);
  }
};

}  // namespace detail

// Adds a method that calls function(const Target&, ...), whose parameters are handles and whose result is an object.
// `parameters` are their names, as a signature shows them; `name` lives as long as the process.
template <auto function>
void def_fast(TargetClass& target, const char* name, const char* parameters) {
  using Method = detail::FastMethod<function>;
  Method::doc = std::string(name) + "($self, " + parameters + ", /)\n--\n\n";
  Method::definition = {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&Method::call)), METH_FASTCALL,
                        Method::doc.c_str()};
  PyObject* const method = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(target.ptr()), &Method::definition);
  if (method == nullptr) throw pybind11::error_already_set();
  target.attr(name) = pybind11::reinterpret_steal<pybind11::object>(method);
}

}  // namespace qs::python
