// The Python side of covariance structures.
#include "arrays.hpp"
#include "faces.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace ranef {

namespace {

// A covariance structure on its own, for tests and conversions.
class StructureFace {
  public:
    StructureFace(const std::string& kind, int r, int rank, const nb::object& positions) {
        Vector values;
        int dimensions = 0;
        if (!positions.is_none()) {
            const auto given = array<Input<2>>(positions, "positions");
            dimensions = static_cast<int>(given.shape(1));
            values.assign(given.data(), given.data() + given.size());
        }
        check_structure(r);
        structure_ = make_structure(kind, r, rank, values, dimensions);
    }
    int parameters() const { return structure_->parameters(); }
    Array factor(Input<1> phi) const {
        return square([&](double* out) { structure_->factor(checked(phi), out); });
    }
    Array derivative(Input<1> phi, int i) const {
        index(i);
        return square([&](double* out) { structure_->derivative(checked(phi), i, out); });
    }
    Array second(Input<1> phi, int i, int j) const {
        index(i);
        index(j);
        return square([&](double* out) {
            if (!structure_->second(checked(phi), i, j, out)) {
                const size_t r = structure_->r;
                std::fill(out, out + r * r, 0.0);
            }
        });
    }
    Array start() const {
        Vector phi(structure_->parameters());
        structure_->start(phi.data());
        return to_array(phi);
    }
    Array rescale(double s, Input<1> phi) const {
        need(std::isfinite(s), "a scale must be finite");
        const double* from = checked(phi);
        Vector out(from, from + structure_->parameters());
        structure_->rescale(s, out.data());
        return to_array(out);
    }

  private:
    template <class Fill>
    Array square(Fill&& fill) const {
        const size_t r = structure_->r;
        Vector out(r * r, 0.0);
        unlocked([&] { fill(out.data()); });
        return to_array(std::move(out), {r, r});
    }
    const double* checked(const Input<1>& phi) const {
        need(phi.shape(0) == static_cast<size_t>(structure_->parameters()),
             "phi has the wrong number of parameters");
        need_finite(phi.data(), phi.size(), "phi");
        return phi.data();
    }
    void index(int i) const { need_index(i, structure_->parameters(), "a parameter"); }
    std::unique_ptr<Structure> structure_;
};

} // namespace

void bind_structure(nb::module_& m) {
    nb::class_<StructureFace>(m, "Structure")
        .def(nb::init<const std::string&, int, int, const nb::object&>(), "kind"_a, "size"_a,
             "rank"_a = 0, "positions"_a.none() = nb::none())
        .def("parameters", &StructureFace::parameters)
        .def("factor", &StructureFace::factor, "phi"_a)
        .def("derivative", &StructureFace::derivative, "phi"_a, "i"_a)
        .def("second", &StructureFace::second, "phi"_a, "i"_a, "j"_a)
        .def("start", &StructureFace::start)
        .def("rescale", &StructureFace::rescale, "s"_a, "phi"_a);
}

} // namespace ranef
