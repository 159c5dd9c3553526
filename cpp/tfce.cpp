#include "tfce.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "watch.hpp"

namespace ranef {

namespace {

constexpr std::size_t most_indices = std::numeric_limits<std::int32_t>::max();

// Components of the voxels above a falling height. What a component has gathered since its root
// became one is kept at the root; a voxel's own is the sum along its way there.
class Rising {
  public:
    Rising(std::size_t n, double E, double H)
        : parent_(n), size_(n, 1), gathered_(n, 0), height_(n, 0), E_(E), H_(H) {
        std::iota(parent_.begin(), parent_.end(), 0);
    }

    void begin(std::int32_t i, double h) { height_[i] = h; }

    std::int32_t root(std::int32_t i) {
        std::int32_t top = i;
        double sum = 0;
        while (parent_[top] != top) {
            sum += gathered_[top];
            top = parent_[top];
        }
        while (parent_[i] != top && i != top) { // shorten the way, keeping its sum
            const std::int32_t next = parent_[i];
            const double own = gathered_[i];
            gathered_[i] = sum;
            sum -= own;
            parent_[i] = top;
            i = next;
        }
        return top;
    }

    // Adds what a component gathers down to height h.
    void lower(std::int32_t i, double h) {
        if (height_[i] == h) return;
        gathered_[i] += extent(size_[i]) * (integral(height_[i]) - integral(h));
        height_[i] = h;
    }

    // Joins the components of two roots at height h; returns the root of both.
    std::int32_t join(std::int32_t a, std::int32_t b, double h) {
        if (a == b) return a;
        lower(a, h);
        lower(b, h);
        if (size_[a] < size_[b]) std::swap(a, b);
        parent_[b] = a;
        gathered_[b] -= gathered_[a];
        size_[a] += size_[b];
        return a;
    }

    double total(std::int32_t i) {
        const std::int32_t top = root(i);
        return i == top ? gathered_[i] : gathered_[i] + gathered_[top];
    }

  private:
    double extent(std::int32_t size) const {
        return E_ == 0.5 ? std::sqrt(static_cast<double>(size)) : std::pow(size, E_);
    }
    double integral(double h) const {
        return H_ == 2.0 ? h * h * h / 3.0 : std::pow(h, H_ + 1) / (H_ + 1);
    }
    std::vector<std::int32_t> parent_, size_;
    std::vector<double> gathered_, height_;
    double E_, H_;
};

struct Place {
    double height;
    std::int32_t index;
};

} // namespace

void tfce(const Neighbours& graph, const double* values, double E, double H, double* out) {
    const std::size_t n = graph.n;
    double most = 0;
    std::vector<Place> order;
    for (std::size_t i = 0; i < n; ++i) {
        out[i] = 0;
        if (!(values[i] > 0)) continue;
        order.push_back({values[i], static_cast<std::int32_t>(i)});
        if (std::isfinite(values[i])) most = std::max(most, values[i]);
    }
    for (Place& one : order) one.height = std::min(one.height, most);
    std::sort(order.begin(), order.end(), [](const Place& a, const Place& b) {
        return a.height != b.height ? a.height > b.height : a.index < b.index;
    });
    Rising rising(n, E, H);
    std::vector<char> there(n, 0);
    std::size_t done = 0;
    for (const auto [h, i] : order) {
        if ((++done & 65535) == 0) Watch::poll();
        there[i] = 1;
        rising.begin(i, h);
        std::int32_t top = i;
        for (std::int32_t k = graph.starts[i]; k < graph.starts[i + 1]; ++k)
            if (there[graph.indices[k]]) top = rising.join(top, rising.root(graph.indices[k]), h);
    }
    for (const Place& one : order) rising.lower(rising.root(one.index), 0.0);
    for (const Place& one : order) {
        const std::int32_t i = one.index;
        out[i] = std::isinf(values[i]) ? std::numeric_limits<double>::infinity() : rising.total(i);
    }
}

void faces_of_voxels(const bool* mask, std::size_t nx, std::size_t ny, std::size_t nz,
                     std::vector<std::int32_t>& starts, std::vector<std::int32_t>& indices) {
    std::vector<std::int32_t> number(nx * ny * nz, -1);
    std::int32_t count = 0;
    for (std::size_t i = 0; i < number.size(); ++i)
        if (mask[i]) number[i] = count++;
    starts.assign(1, 0);
    const auto take = [&](bool inside, std::size_t at) {
        if (inside && number[at] >= 0) indices.push_back(number[at]);
    };
    std::size_t at = 0;
    for (std::size_t x = 0; x < nx; ++x)
        for (std::size_t y = 0; y < ny; ++y) {
            Watch::poll();
            for (std::size_t z = 0; z < nz; ++z, ++at) {
                if (!mask[at]) continue;
                take(x > 0, at - ny * nz);
                take(x + 1 < nx, at + ny * nz);
                take(y > 0, at - nz);
                take(y + 1 < ny, at + nz);
                take(z > 0, at - 1);
                take(z + 1 < nz, at + 1);
                starts.push_back(static_cast<std::int32_t>(indices.size()));
            }
            if (indices.size() > most_indices)
                throw std::invalid_argument("there are too many voxels for a list of neighbours");
        }
}

} // namespace ranef
