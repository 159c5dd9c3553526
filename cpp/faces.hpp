// What module.cpp binds beside its own.
#pragma once

#include <nanobind/nanobind.h>

namespace ranef {

void bind_dynamic(nanobind::module_& m);
void bind_contamination(nanobind::module_& m);
void bind_linear(nanobind::module_& m);
void bind_imaging(nanobind::module_& m);
void bind_iterative(nanobind::module_& m);
void bind_messages(nanobind::module_& m);
void bind_squares(nanobind::module_& m);
void bind_structure(nanobind::module_& m);
void bind_whitening(nanobind::module_& m);
void bind_genotypes(nanobind::module_& m);

} // namespace ranef
