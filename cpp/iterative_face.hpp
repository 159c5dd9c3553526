#pragma once

#include <nanobind/nanobind.h>

namespace ranef {

void bind_iterative(nanobind::module_& m);

} // namespace ranef
