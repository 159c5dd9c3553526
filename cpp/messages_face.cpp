// Python's side of messages between nested levels.
#include "arrays.hpp"
#include "faces.hpp"
#include "messages.hpp"

using namespace nb::literals;

namespace ranef {

namespace {

constexpr size_t most_coordinates = 2000;
constexpr size_t most_numbers = size_t{1} << 31; // of one array: 16 GB

using Masks = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Cube = nb::ndarray<const double, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

std::vector<Indices> read_masks(const Masks& given, size_t width, const char* name) {
    need(given.shape(1) == width, std::string(name) + " must have one column a variable");
    need(given.shape(0) <= most_rows, std::string(name) + " are too many");
    std::vector<Indices> out;
    for (size_t o = 0; o < given.shape(0); ++o) {
        out.emplace_back(given.data() + o * width, given.data() + (o + 1) * width);
        for (int32_t x : out.back())
            need(x == 0 || x == 1, std::string(name) + " must hold 0 and 1");
    }
    return out;
}

Vector read_cube(const Cube& given, size_t n, size_t rows, size_t columns, const char* name) {
    need(given.shape(0) == n && given.shape(1) == rows && given.shape(2) == columns,
         std::string(name) + " have the wrong shape");
    need_finite(given.data(), given.size(), name);
    return Vector(given.data(), given.data() + given.size());
}

// Steps from 0 to `last` that do not fall, one more than `count`.
std::vector<int> read_steps(const Codes& given, size_t count, size_t last, const char* name) {
    need(given.shape(0) == count + 1 && given.data()[0] == 0 &&
             given.data()[count] == static_cast<int32_t>(last),
         std::string(name) + " must lead from 0 to the number of what it divides");
    std::vector<int> out(given.data(), given.data() + given.shape(0));
    for (size_t i = 0; i < count; ++i) need(out[i] <= out[i + 1], std::string(name) + " falls");
    return out;
}

class Messages {
  public:
    Messages(Masks present, Cube total_xx, Cube total_xy, Cube total_yy, Codes pattern,
             Cube piece_xx, Cube piece_xy, const nb::object& piece_yy, Codes column, Codes response,
             int slopes, const nb::list& levels, const nb::object& share, const nb::object& unit,
             int threads)
        : threads_(checked_threads(threads)) {
        const size_t p = present.shape(1), k = total_xx.shape(1), patterns = present.shape(0);
        need(p <= most_coordinates && k >= 1 && k <= most_coordinates,
             "there are too many columns");
        need(slopes >= 0 && static_cast<size_t>(slopes) <= most_coordinates, "slopes is no number");
        need(levels.size() <= 8, "there are at most 8 levels above the rows");
        data_.p = static_cast<int>(p), data_.k = static_cast<int>(k), data_.slopes = slopes;
        data_.present = read_masks(present, p, "patterns");
        data_.totals.xx = read_cube(total_xx, patterns, k, k, "products of x");
        data_.totals.xy = read_cube(total_xy, patterns, k, p, "products of x and y");
        data_.totals.yy = read_cube(total_yy, patterns, p, p, "products of y");
        const size_t pieces = pattern.shape(0);
        need(pieces <= most_rows && pieces * (p + k) * (p + k) <= most_numbers,
             "there are too many pieces");
        data_.pattern.assign(pattern.data(), pattern.data() + pieces);
        for (int o : data_.pattern) need_index(o, patterns, "a pattern");
        data_.pieces.xx = read_cube(piece_xx, pieces, k, k, "products of x");
        data_.pieces.xy = read_cube(piece_xy, pieces, k, p, "products of x and y");
        if (!piece_yy.is_none()) {
            Cube yy;
            need(nb::try_cast(piece_yy, yy), "products of y must be float64");
            data_.pieces.yy = read_cube(yy, pieces, p, p, "products of y");
        }
        need(column.shape(0) == response.shape(0), "one column and response a coordinate");
        data_.column.assign(column.data(), column.data() + column.shape(0));
        data_.response.assign(response.data(), response.data() + response.shape(0));
        for (int c : data_.column) need_index(c, k, "a column of x");
        for (int r : data_.response)
            // one row of loadings more says that the coordinate is of no row
            need(r >= -1 - slopes - 1 && r < static_cast<int>(p), "a response is out of range");
        size_t below = pieces;
        for (nb::handle one : levels) {
            data_.levels.push_back(read_level(member<nb::dict>(one, "a level"), below));
            below = static_cast<size_t>(data_.levels.back().units);
        }
        finish_levels();
        const size_t top =
            data_.levels.empty() ? 0 : static_cast<size_t>(data_.levels.back().units);
        const double* s = optional(share, top, "share", keep_);
        const double* m = optional(unit, top, "unit", keep_);
        if (s != nullptr) need_finite(s, top, "share"), data_.share.assign(s, s + top);
        if (m != nullptr) need_finite(m, top, "unit"), data_.unit.assign(m, m + top);
    }

    size_t moments() const { return moments_of(data_); }

    nb::tuple criterion(Input<1> at, bool gradient) const {
        const MessageParameters here = read(at);
        Vector slope(gradient ? moments() : 0);
        double value = 0;
        unlocked([&] {
            value = message_criterion(data_, here, gradient ? slope.data() : nullptr, threads_);
        });
        return nb::make_tuple(value, to_array(std::move(slope)));
    }

    nb::tuple units(Input<1> at, const nb::object& directions) const {
        const MessageParameters here = read(at);
        need(!data_.levels.empty(), "there is no level above the rows");
        need(data_.pieces.yy.size() == data_.pattern.size() * data_.p * data_.p,
             "units need the products of y of each piece");
        const size_t n = data_.levels.back().units;
        Input<2> into;
        size_t columns = 0;
        if (!directions.is_none()) {
            into = array<Input<2>>(directions, "directions");
            need(into.shape(0) == moments(), "directions must have one row a moment");
            need_finite(into.data(), into.size(), "directions");
            columns = into.shape(1);
            need(n * columns <= most_numbers, "there are too many scores");
        }
        Vector values(n), scores(n * columns);
        unlocked([&] {
            message_units(data_, here, columns == 0 ? nullptr : into.data(),
                          static_cast<int>(columns), values.data(),
                          columns == 0 ? nullptr : scores.data(), threads_);
        });
        return nb::make_tuple(to_array(std::move(values)),
                              to_array(std::move(scores), {n, columns}));
    }

    nb::tuple posterior(Input<1> at, int level) const {
        const MessageParameters here = read(at);
        need_index(level, data_.levels.size(), "a level");
        const size_t n = data_.levels[level].units, a = data_.levels[level].a;
        Vector means(n * a), covariances(n * a * a);
        unlocked([&] { message_posterior(data_, here, level, means.data(), covariances.data()); });
        return nb::make_tuple(to_array(std::move(means), {n, a}),
                              to_array(std::move(covariances), {n, a, a}));
    }

    // Moments (nodes, moments), log densities (nodes) of the nodes, and the pairs of units and
    // nodes.
    nb::dict nodes(Input<2> at, Input<1> prior, Codes first, Codes node, Input<1> volume,
                   bool gradient) const {
        need(data_.levels.size() == 1 && data_.share.empty() && data_.unit.empty(),
             "nodes are of one level above the rows, each unit by itself");
        need(data_.pieces.yy.size() == data_.pattern.size() * data_.p * data_.p,
             "nodes need the products of y of each piece");
        const size_t count = at.shape(0), n = data_.levels[0].units, pairs = node.shape(0);
        need(count >= 1 && at.shape(1) == moments(), "the moments have another number");
        need_finite(at.data(), at.size(), "the moments");
        need(prior.shape(0) == count && volume.shape(0) == pairs && pairs <= most_rows,
             "one prior a node, one volume a pair");
        need_finite(prior.data(), count, "prior");
        need_finite(volume.data(), pairs, "volume");
        NodePlan plan;
        plan.first = read_steps(first, n, pairs, "first");
        for (size_t u = 0; u < n; ++u)
            need(plan.first[u] < plan.first[u + 1], "every unit needs a node");
        plan.node.assign(node.data(), node.data() + pairs);
        for (int k : plan.node) need_index(k, count, "a node");
        plan.volume.assign(volume.data(), volume.data() + pairs);
        std::vector<MessageParameters> here;
        for (size_t k = 0; k < count; ++k) here.push_back(taken_apart(at.data() + k * moments()));
        Vector slope(gradient ? count * moments() : 0), weight(pairs), values(n);
        double value = 0;
        unlocked([&] {
            designs_of(data_, plan);
            value =
                message_nodes(data_, here, prior.data(), plan, gradient ? slope.data() : nullptr,
                              weight.data(), values.data(), threads_);
        });
        nb::dict out;
        out["value"] = value;
        out["gradient"] = to_array(std::move(slope), {gradient ? count : 0, moments()});
        out["weight"] = to_array(std::move(weight));
        out["values"] = to_array(std::move(values));
        return out;
    }

  private:
    static UpperLevel read_level(const nb::dict& d, size_t below) {
        UpperLevel out;
        const auto z = array<Input<2>>(entry(d, "z"), "z");
        const auto pattern = array<Codes>(entry(d, "pattern"), "pattern");
        const auto up = array<Codes>(entry(d, "up"), "up");
        const size_t n = z.shape(0), q = z.shape(1);
        Masks present;
        need(nb::try_cast(entry(d, "present"), present), "present must be a matrix of int32");
        need(n <= most_rows && up.shape(0) >= q && up.shape(0) <= most_coordinates,
             "a level has too many units, or coordinates that do not fit");
        out.units = static_cast<int>(n);
        out.q = static_cast<int>(q);
        out.a = static_cast<int>(up.shape(0) - q);
        need_finite(z.data(), z.size(), "z");
        out.z.assign(z.data(), z.data() + z.size());
        out.present = read_masks(present, q, "patterns of z");
        need(pattern.shape(0) == n, "one pattern of z a unit");
        out.pattern.assign(pattern.data(), pattern.data() + n);
        for (int o : out.pattern) need_index(o, out.present.size(), "a pattern of z");
        out.up.assign(up.data(), up.data() + up.shape(0));
        out.first = read_steps(array<Codes>(entry(d, "first"), "first"), n, below, "first");
        return out;
    }

    void finish_levels() {
        const size_t n = data_.levels.size();
        if (n > 0)
            need(data_.levels[0].a == static_cast<int>(data_.column.size()),
                 "level 2 must have the coordinates that the rows have");
        for (size_t l = 0; l < n; ++l)
            for (int to : data_.levels[l].up)
                need(to == -1 || (l + 1 < n && to >= 0 && to < data_.levels[l + 1].a),
                     "a coordinate leads to none of the level above");
    }

    MessageParameters read(const Input<1>& at) const {
        need(at.shape(0) == moments(), "the moments have another number");
        need_finite(at.data(), at.size(), "the moments");
        return taken_apart(at.data());
    }

    MessageParameters taken_apart(const double* at) const {
        const size_t p = data_.p;
        MessageParameters out{};
        out.W = at;
        out.B = out.W + p * p;
        out.L = out.B + p * data_.k;
        const double* next = out.L + p * data_.slopes;
        for (const UpperLevel& level : data_.levels) {
            const size_t d = level.size();
            out.S.push_back(next);
            out.m.push_back(next + d * d);
            next += d * d + d;
        }
        return out;
    }

    MessageData data_;
    int threads_;
    std::vector<nb::object> keep_;
};

} // namespace

void bind_messages(nb::module_& m) {
    nb::class_<Messages>(m, "Messages")
        .def(nb::init<Masks, Cube, Cube, Cube, Codes, Cube, Cube, const nb::object&, Codes, Codes,
                      int, const nb::list&, const nb::object&, const nb::object&, int>(),
             "present"_a, "total_xx"_a, "total_xy"_a, "total_yy"_a, "pattern"_a, "piece_xx"_a,
             "piece_xy"_a, "piece_yy"_a.none(), "column"_a, "response"_a, "slopes"_a, "levels"_a,
             "share"_a.none(), "unit"_a.none(), "threads"_a)
        .def_prop_ro("moments", &Messages::moments)
        .def("criterion", &Messages::criterion, "at"_a, "gradient"_a)
        .def("units", &Messages::units, "at"_a, "directions"_a.none())
        .def("nodes", &Messages::nodes, "at"_a, "prior"_a, "first"_a, "node"_a, "volume"_a,
             "gradient"_a)
        .def("posterior", &Messages::posterior, "at"_a, "level"_a);
}

} // namespace ranef
