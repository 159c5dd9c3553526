// Python's side of the residuals of groups.
#include <nanobind/stl/pair.h>

#include "arrays.hpp"
#include "faces.hpp"
#include "markov.hpp"
#include "whitening.hpp"

using namespace nb::literals;

namespace ranef {

namespace {

constexpr size_t most_cells = size_t{1} << 31; // of an answer: 16 GB
constexpr size_t most_size = 1 << 20;          // rows or columns of one matrix

using Cubes = nb::ndarray<const double, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Fours = nb::ndarray<const double, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Grid = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

Indices checked(const int32_t* values, size_t count, size_t below, const char* name) {
    Indices out(values, values + count); // a copy: another thread may write to the user's
    for (int32_t i : out) need_index(i, below, name);
    return out;
}

void need_cells(double cells) {
    need(cells <= static_cast<double>(most_cells), "the sums are too many for one answer");
}

// Rows of groups; U is kept alive.
class Groups {
  public:
    Groups(Input<2> U, Grid rows, Codes which, int patterns, Codes cluster, int clusters) : U_(U) {
        const size_t g = rows.shape(0);
        need(g >= 1 && rows.shape(1) >= 1, "there must be a group, and a row of each");
        need(g <= most_rows && rows.size() <= most_rows && U.shape(0) <= most_rows,
             "there are too many rows");
        need(rows.shape(1) <= most_size && U.shape(1) >= 1 && U.shape(1) <= most_size,
             "U must have columns, and groups not too many rows");
        need(which.shape(0) == g && cluster.shape(0) == g,
             "which and cluster must have one value a group");
        need(patterns >= 1 && clusters >= 1 && static_cast<size_t>(clusters) <= most_rows,
             "there must be a pattern, and a cluster");
        at_.groups = static_cast<int>(g);
        at_.n = static_cast<int>(rows.shape(1));
        at_.w = static_cast<int>(U.shape(1));
        at_.patterns = patterns;
        at_.clusters = clusters;
        at_.U = U.data();
        at_.rows = checked(rows.data(), rows.size(), U.shape(0), "a row");
        at_.which = checked(which.data(), g, patterns, "a pattern");
        at_.cluster = checked(cluster.data(), g, clusters, "a cluster");
        unlocked([&] { at_.sort(); });
    }
    const GroupRows& rows() const { return at_; }
    std::vector<size_t> shape(std::vector<size_t> inner) const {
        inner.insert(inner.begin(), static_cast<size_t>(at_.clusters));
        double cells = 1;
        for (size_t one : inner) cells *= static_cast<double>(one);
        need_cells(cells);
        return inner;
    }
    void need_vectors(const Input<2>& vectors) const {
        need(vectors.shape(0) == static_cast<size_t>(at_.clusters) &&
                 vectors.shape(1) == static_cast<size_t>(at_.w),
             "vectors must have one row a cluster, and one value a column");
    }

  private:
    Input<2> U_;
    GroupRows at_;
};

// Covariances of groups, whose arrays are kept alive.
class WhitenedGroups {
  public:
    WhitenedGroups(Cubes R, Fours first, double least_pivot, double least_variance, int threads)
        : R_(R), first_(first), threads_(checked_threads(threads)) {
        const size_t m = R.shape(0), n = R.shape(1), k = first.shape(0);
        need(m >= 1 && n >= 1 && R.shape(2) == n, "R must be square matrices");
        need(m <= most_rows && n <= most_size && k <= most_size, "there are too many matrices");
        need(first.shape(1) == m && first.shape(2) == n && first.shape(3) == n,
             "first must have the shape of R for each parameter");
        need_cells(static_cast<double>(m) * n * n * (k + 1));
        need(least_pivot >= 0 && least_variance >= 0, "least variances must not be negative");
        RowCovariances given;
        given.m = static_cast<int>(m);
        given.n = static_cast<int>(n);
        given.k = static_cast<int>(k);
        given.R = R.data();
        given.first = first.data();
        unlocked([&] {
            core_ = std::make_unique<Whitening>(given, least_pivot, least_variance, threads_);
        });
    }

    Array inverse() const { return to_array(core_->inverse(), {m(), n(), n()}); }
    Array log_determinants() const { return to_array(core_->log_determinants()); }
    Array traces() const {
        Vector out;
        unlocked([&] { out = core_->traces(threads_); });
        return to_array(std::move(out), {k(), m()});
    }
    Array middles() const {
        Vector out;
        unlocked([&] { out = core_->middles(threads_); });
        return to_array(std::move(out), {1 + k(), m(), n(), n()});
    }
    Array products(const Groups& groups) const {
        const size_t w = fitting(groups).w;
        const auto shape = groups.shape({1 + k(), w, w});
        Vector out;
        unlocked([&] { out = core_->products(groups.rows(), threads_); });
        return to_array(std::move(out), shape);
    }
    nb::tuple second_products(const Groups& groups, const std::vector<std::pair<int, int>>& pairs,
                              const std::vector<Cubes>& second) const {
        const size_t w = fitting(groups).w;
        const Bends bends = read_bends(pairs, second);
        const auto wide = groups.shape({k(), w, k(), w}), flat = groups.shape({pairs.size(), w, w});
        std::pair<Vector, Vector> out;
        unlocked([&] { out = core_->second_products(groups.rows(), bends, threads_); });
        return nb::make_tuple(to_array(std::move(out.first), wide),
                              to_array(std::move(out.second), flat));
    }
    Array information(const Groups& groups, Input<2> vectors) const {
        fitting(groups);
        groups.need_vectors(vectors);
        Vector out;
        unlocked([&] { out = core_->information(groups.rows(), vectors.data(), threads_); });
        return to_array(std::move(out), {k(), k()});
    }
    Array forms(const Groups& groups, Fours K) const {
        const size_t w = fitting(groups).w, s = K.shape(0);
        need(K.shape(1) == m() && K.shape(2) == n() && K.shape(3) == n() && s <= most_size,
             "K must be matrices of the shape of R");
        const auto shape = groups.shape({s, w, w});
        Vector out;
        unlocked(
            [&] { out = core_->forms(groups.rows(), static_cast<int>(s), K.data(), threads_); });
        return to_array(std::move(out), shape);
    }
    nb::tuple contracted(Fours S, Input<1> counts, const std::vector<std::pair<int, int>>& pairs,
                         const std::vector<Cubes>& second) const {
        const size_t s = S.shape(0);
        need(S.shape(1) == m() && S.shape(2) == n() && S.shape(3) == n() && s <= 100,
             "S must be matrices of the shape of R");
        need(counts.shape(0) == m(), "counts must have one value a matrix");
        need_cells(static_cast<double>(std::min<size_t>(m(), most_parts)) * (1 + s) * k() * k());
        const Bends bends = read_bends(pairs, second);
        std::pair<Vector, Vector> out;
        unlocked([&] {
            out = core_->contracted(static_cast<int>(s), S.data(), counts.data(), bends, threads_);
        });
        return nb::make_tuple(to_array(std::move(out.first), {1 + s, k(), k()}),
                              to_array(std::move(out.second), {1 + s, pairs.size()}));
    }
    Array weighted(Input<2> weights, const std::vector<std::pair<int, int>>& pairs,
                   const std::vector<Cubes>& second) const {
        need(weights.shape(0) == k() && weights.shape(1) == k(),
             "weights must have one row and one column a parameter");
        const Bends bends = read_bends(pairs, second);
        Vector out;
        unlocked([&] { out = core_->weighted(weights.data(), bends, threads_); });
        return to_array(std::move(out), {2, m(), n(), n()});
    }

  private:
    size_t m() const { return core_->given().m; }
    size_t n() const { return core_->given().n; }
    size_t k() const { return core_->given().k; }

    const GroupRows& fitting(const Groups& groups) const {
        const GroupRows& rows = groups.rows();
        need(static_cast<size_t>(rows.n) == n() && static_cast<size_t>(rows.patterns) == m(),
             "the groups are not those of these covariances");
        need(k() * rows.w <= most_size, "there are too many columns for so many parameters");
        return rows;
    }

    Bends read_bends(const std::vector<std::pair<int, int>>& pairs,
                     const std::vector<Cubes>& second) const {
        Bends out;
        need(pairs.size() == second.size(), "pairs and second must be as many");
        for (const auto& [i, j] : pairs) {
            need_index(i, k(), "a parameter of a second derivative");
            need_index(j, k(), "a parameter of a second derivative");
        }
        for (const Cubes& one : second) {
            need(one.shape(0) == m() && one.shape(1) == n() && one.shape(2) == n(),
                 "second derivatives must have the shape of R");
            out.values.push_back(one.data());
        }
        out.pairs = pairs;
        return out;
    }

    Cubes R_;
    Fours first_;
    int threads_;
    std::unique_ptr<Whitening> core_;
};

class Markov {
  public:
    Markov(Input<1> rho, Input<1> first, Input<1> second, Grid which, int threads)
        : threads_(checked_threads(threads)) {
        const size_t d = rho.shape(0);
        need(first.shape(0) == d && second.shape(0) == d,
             "rho, first and second must have one value a distance");
        need(which.shape(0) >= 1 && which.shape(1) >= 1 && which.shape(1) < most_size &&
                 which.size() <= most_rows,
             "there must be a group, and a step of each");
        Indices own = checked(which.data(), which.size(), d, "a distance");
        const auto vector = [&](const Input<1>& one) { return Vector(one.data(), one.data() + d); };
        unlocked([&] {
            core_ = std::make_unique<MarkovSteps>(vector(rho), vector(first), vector(second),
                                                  std::move(own), static_cast<int>(which.shape(1)));
        });
    }

    nb::tuple totals() const {
        const auto& t = core_->totals();
        return nb::make_tuple(t[0], t[1], t[2], t[3]);
    }
    Array products(const Groups& groups) const {
        return pair(groups, [&](Vector& out) { out = core_->products(groups.rows(), threads_); });
    }
    Array second_products(const Groups& groups) const {
        return pair(groups,
                    [&](Vector& out) { out = core_->second_products(groups.rows(), threads_); });
    }
    double information(const Groups& groups, Input<2> vectors) const {
        fitting(groups);
        groups.need_vectors(vectors);
        double out = 0;
        unlocked([&] { out = core_->information(groups.rows(), vectors.data(), threads_); });
        return out;
    }

  private:
    const GroupRows& fitting(const Groups& groups) const {
        const GroupRows& rows = groups.rows();
        need(rows.n == core_->steps() + 1 && static_cast<size_t>(rows.groups) == core_->groups(),
             "the groups are not those of these steps");
        return rows;
    }
    template <class Work>
    Array pair(const Groups& groups, Work&& work) const {
        const size_t w = fitting(groups).w;
        const auto shape = groups.shape({2, w, w});
        Vector out;
        unlocked([&] { work(out); });
        return to_array(std::move(out), shape);
    }

    int threads_;
    std::unique_ptr<MarkovSteps> core_;
};

} // namespace

void bind_whitening(nb::module_& m) {
    const nb::object base = nb::module_::import_("numpy.linalg").attr("LinAlgError");
    nb::exception<NotDefinite>(m, "NotDefinite", base);
    nb::class_<Groups>(m, "GroupRows")
        .def(nb::init<Input<2>, Grid, Codes, int, Codes, int>(), "U"_a, "rows"_a, "which"_a,
             "patterns"_a, "cluster"_a, "clusters"_a);
    nb::class_<WhitenedGroups>(m, "WhitenedGroups")
        .def(nb::init<Cubes, Fours, double, double, int>(), "R"_a, "first"_a, "least_pivot"_a,
             "least_variance"_a, "threads"_a)
        .def("inverse", &WhitenedGroups::inverse)
        .def("log_determinants", &WhitenedGroups::log_determinants)
        .def("traces", &WhitenedGroups::traces)
        .def("middles", &WhitenedGroups::middles)
        .def("products", &WhitenedGroups::products, "groups"_a)
        .def("second_products", &WhitenedGroups::second_products, "groups"_a, "pairs"_a, "second"_a)
        .def("information", &WhitenedGroups::information, "groups"_a, "vectors"_a)
        .def("forms", &WhitenedGroups::forms, "groups"_a, "K"_a)
        .def("contracted", &WhitenedGroups::contracted, "S"_a, "counts"_a, "pairs"_a, "second"_a)
        .def("weighted", &WhitenedGroups::weighted, "weights"_a, "pairs"_a, "second"_a);
    nb::class_<Markov>(m, "Markov")
        .def(nb::init<Input<1>, Input<1>, Input<1>, Grid, int>(), "rho"_a, "first"_a, "second"_a,
             "which"_a, "threads"_a)
        .def("totals", &Markov::totals)
        .def("products", &Markov::products, "groups"_a)
        .def("second_products", &Markov::second_products, "groups"_a)
        .def("information", &Markov::information, "groups"_a, "vectors"_a);
}

} // namespace ranef
