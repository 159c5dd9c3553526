// The passes of the message kernel over the units, at one point of the parameters.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "message_matrices.hpp"
#include "messages.hpp"
#include "watch.hpp"

namespace ranef::message {

constexpr double log_2pi = 1.8378770664093454836;
constexpr int between_polls = 4096; // pieces of rows

// What a level's parameters give for each pattern of its observed coordinates.
struct Conditioned {
    Vector K;  // inverse covariance of those observed (q, q)
    Vector G;  // regression of the others on them (a, q)
    Vector C0; // covariance of the others given them (a, a)
    double log_det = 0;
    int count = 0;
};

// Sums of one level's derivatives.
struct LevelSums {
    Vector m;
    std::vector<Vector> D, E, Z; // by pattern of z: of C0, of G, of the covariance of z

    void clear();
};

struct Sums {
    double value = 0;
    Vector omega, gamma, lambda; // by pattern of rows
    std::vector<LevelSums> levels;
};

void add(Sums& to, const Sums& from);

// One unit on its way: what its parameters and its message make.
struct Unit {
    Vector e, a, U, N, X, Q, g, gq, work, work2;
    double log_det = 0; // of N
    Vector P, h;        // its own message upwards
    double c = 0;
};

class Engine {
  public:
    Engine(const MessageData& data, const MessageParameters& at) : data_(data), at_(at) {}

    // False where a covariance matrix is not positive definite.
    bool prepare();

    Sums empty_sums() const;

    // The units [first, last) of the highest level: their messages, and with them derivatives.
    // False where the likelihood has no value.
    bool units(int first, int last, bool derivatives, Sums& sums,
               std::vector<Vector>* means = nullptr, std::vector<Vector>* covs = nullptr) const;

    // The rows alone, of totals by pattern; with derivatives of the rows and of the levels.
    double rows(const RowSums& totals, const std::vector<int>& which, Sums& sums,
                double* gradient) const;

    // Derivatives of the levels from their sums.
    void finish_levels(const Sums& sums, double* gradient) const;

    // One unit of the only level above the rows: its message; `alike` says that what does not
    // depend on its values is in w already.
    bool one_up(int u, bool alike, Unit& w) const;

    // The same on the way down, its derivatives added as a share of one.
    void one_down(int u, const Unit& w, double share_of, Sums& sums) const;

    // -2 log L of the rows of one piece about their means without random effects.
    double piece(int piece) const;

  private:
    // Messages of the units below that wait to be asked on the way down.
    using Stack = std::vector<Unit>;

    static bool condition(const UpperLevel& level, const double* S, std::vector<Conditioned>& out);
    static void message(const Conditioned& own, int a, int q, int d, Unit& w);
    static void finish_pattern(const Conditioned& own, const LevelSums& sums, size_t o, int a,
                               int q, double* dS);

    // The message of the rows of a unit at level 2: P (a, a), where it is not null, and h (a) are
    // added to.
    void rows_message(int u, double unit, double* P, double* h, Vector& residual) const;

    // The unit's message; those below are put on the stack, its own stays in work.
    bool upwards(int l, int u, std::vector<Unit>& work, Stack& stack) const;
    // N = I + U C0 U' with U'U = P, and Q = U' N^-1 U.
    bool factorise(int l, int u, const Vector& P, Unit& w) const;
    bool solve(int l, int u, const Vector& h, double c, Unit& w) const;

    // Derivatives at a unit whose levels above add t, of mean and covariance V given the data.
    void downwards(int l, int u, const Vector& t, const Vector& V, const Unit& w, Stack& stack,
                   size_t& top, double share_of, Sums& sums, std::vector<Vector>* means,
                   std::vector<Vector>* covs) const;
    void rows_down(int u, double unit, const Vector& mean, const Vector& cov, double share_of,
                   Sums& sums) const;

    double multiple(int level, int u) const {
        return level + 1 == static_cast<int>(data_.levels.size()) && !data_.unit.empty()
                   ? data_.unit[u]
                   : 1.0;
    }
    double share(int level, int u) const {
        return level + 1 == static_cast<int>(data_.levels.size()) && !data_.share.empty()
                   ? data_.share[u]
                   : 1.0;
    }

    // Loadings of a coordinate of level 2.
    double loading(int c, int i) const {
        const int r = data_.response[c];
        if (r >= 0) return r == i ? 1.0 : 0.0;
        return at_.L[(-1 - r) * data_.p + i];
    }

    // x'(y - B x) of a piece for one column of x, (p).
    void residual_of(int piece, int column, double unit, double* out) const {
        const int p = data_.p, k = data_.k;
        const double* xx = data_.pieces.xx.data() + static_cast<size_t>(piece) * k * k;
        const double* xy = data_.pieces.xy.data() + static_cast<size_t>(piece) * k * p;
        for (int i = 0; i < p; ++i) {
            double s = xy[column * p + i];
            for (int c = 0; c < k; ++c) s -= unit * at_.B[i * k + c] * xx[c * k + column];
            out[i] = s;
        }
    }

    const MessageData& data_;
    const MessageParameters& at_;
    Vector R_, RL_, log_det_;
    std::vector<int> count_;
    std::vector<std::vector<Conditioned>> levels_;
};

} // namespace ranef::message
