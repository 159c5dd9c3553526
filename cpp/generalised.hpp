// The Python face of generalised linear mixed models.
#pragma once

#include <nanobind/nanobind.h>

namespace ranef {

void bind_generalised(nanobind::module_& m);

} // namespace ranef
