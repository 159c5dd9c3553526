// The Python face of the families.
#pragma once

#include <nanobind/nanobind.h>

namespace ranef {

void bind_families(nanobind::module_& m);

} // namespace ranef
