/* The C interface of quantstats in an extension module of Python. Include it after, or in place of, Python.h. */
#ifndef QUANTSTATS_PYTHON_H
#define QUANTSTATS_PYTHON_H

#include <Python.h>

#include "quantstats/capi.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Imports quantstats and returns its C interface, of which at least `size` bytes are filled; it lives as long as the
 * process. Returns NULL with ImportError set if quantstats cannot be imported or is too old. Needs the GIL. */
static inline const quantstats_capi* quantstats_import_size(size_t size) {
  const quantstats_capi* api = (const quantstats_capi*)PyCapsule_Import(QUANTSTATS_CAPI_NAME, 0);
  if (api == NULL) {
    if (!PyErr_ExceptionMatches(PyExc_ImportError)) {
      PyErr_SetString(PyExc_ImportError, "the installed quantstats-native has no C interface; upgrade it");
    }
    return NULL;
  }
  if (api->version != QUANTSTATS_CAPI_VERSION || api->size < size) {
    PyErr_Format(PyExc_ImportError,
                 "the installed quantstats-native has version %u of the C interface with %u bytes, but this module was "
                 "built for version %u with %zu bytes; upgrade quantstats-native",
                 (unsigned)api->version, (unsigned)api->size, (unsigned)QUANTSTATS_CAPI_VERSION, size);
    return NULL;
  }
  return api;
}

/* The same for all members that this header declares. */
static inline const quantstats_capi* quantstats_import(void) { return quantstats_import_size(sizeof(quantstats_capi)); }

#ifdef __cplusplus
}
#endif

#endif
