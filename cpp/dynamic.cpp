#include "dynamic.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "threads.hpp"

namespace ranef {

namespace {

constexpr double log_two_pi = 1.8378770664093454836;
constexpr double least_share = 1e-13; // of a node in its person's integral
constexpr int most_terms = 2000;      // of a sum over prompts that were not seen
constexpr int chunks = 64;

// Coefficient of the deviation before, and variance relative to sigma^2, of one row.
struct Carry {
    double a = 0, log_g = 0;
    double da = 0, dlog_g = 0; // in the predictor of phi
    double dlog_g_omega = 0;   // in log omega
};

Carry by_clock(double eta, double gap) {
    // phi = 1 / (1 + exp(-eta)), its logarithm without cancellation
    const double log_phi = eta > 0 ? -std::log1p(std::exp(-eta)) : eta - std::log1p(std::exp(eta));
    const double slope = 1.0 - std::exp(log_phi); // of log phi in eta
    const double one = -std::expm1(2 * log_phi);
    Carry out;
    const double unit = -2 * std::exp(2 * log_phi) / one; // of log(1 - phi^2) in log phi
    if (gap == 0) {
        out.log_g = -std::log(one);
        out.dlog_g = -unit * slope;
        return out;
    }
    const double far = -std::expm1(2 * gap * log_phi);
    out.a = std::exp(gap * log_phi);
    out.da = out.a * gap * slope;
    out.log_g = std::log(far) - std::log(one);
    out.dlog_g = (-2 * gap * std::exp(2 * gap * log_phi) / far - unit) * slope;
    return out;
}

// phi^2 + ... + phi^(2 n) and its derivative in phi.
void powers(double phi, double n, double* sum, double* slope) {
    const double s = phi * phi;
    *sum = *slope = 0;
    if (n > most_terms && s < 1) {
        const double last = std::pow(s, n);
        *sum = s * (1 - last) / (1 - s);
        *slope = 2 * phi * ((1 - (n + 1) * last) * (1 - s) + s * (1 - last)) / ((1 - s) * (1 - s));
        return;
    }
    double power = 1;
    for (int j = 1; j <= n; ++j) {
        *slope += 2 * j * power * phi;
        power *= s;
        *sum += power;
    }
}

Carry by_prompt(double eta, double gap, bool plain, double omega) {
    const double phi = plain ? eta : std::tanh(eta);
    double sum = 0, slope = 0; // of the sum in eta
    Carry out;
    if (gap == 0) {
        if (plain) {
            const double one = 1 - phi * phi;
            if (one <= 0) {
                out.log_g = std::numeric_limits<double>::infinity();
                return out;
            }
            sum = phi * phi / one;
            slope = 2 * phi / (one * one);
        } else {
            const double s = std::sinh(eta), c = std::cosh(eta);
            sum = s * s;
            slope = 2 * s * c;
        }
    } else {
        const double within = plain ? 1.0 : 1 - phi * phi;
        out.a = gap == 1 ? phi : std::pow(phi, gap);
        out.da = (gap == 1 ? 1.0 : gap * std::pow(phi, gap - 1)) * within;
        if (gap > 1) powers(phi, gap - 1, &sum, &slope);
        slope *= within;
    }
    const double g = 1 + omega * sum;
    out.log_g = std::log(g);
    out.dlog_g = omega * slope / g;
    out.dlog_g_omega = omega * sum / g;
    return out;
}

// A person at one v: what the integral over b needs, and after it its derivatives.
class Person {
  public:
    Person(const DynamicData& data, const DynamicPoint& at)
        : data_(data), at_(at), d_(data.d), q_(data.q()), r_(data.r()), v_(d_), c_(q_), A_(q_ * q_),
          b_(q_), M_(q_ * q_), m_(q_), P_(q_ * q_), AL_(q_ * q_), C_(q_ * q_), mean_(q_), gb_(q_),
          gv_(d_) {}

    void take(int person) {
        first_ = data_.first[person];
        n_ = data_.first[person + 1] - first_;
        carry_.resize(n_);
        precision_.resize(n_);
        error_.resize(n_);
        h_.resize(static_cast<size_t>(n_) * q_);
    }

    // The log of the integrand at u (d), b integrated out.
    double value(const double* u) {
        Watch::poll();
        const double* L = at_.L;
        for (int j = 0; j < d_; ++j) {
            v_[j] = 0;
            for (int k = 0; k <= j; ++k) v_[j] += L[j * r_ + k] * u[k];
        }
        for (int j = 0; j < q_; ++j) {
            c_[j] = 0;
            for (int k = 0; k < d_; ++k) c_[j] += L[(d_ + j) * r_ + k] * u[k];
        }
        std::fill(A_.begin(), A_.end(), 0.0);
        std::fill(b_.begin(), b_.end(), 0.0);
        double squares = 0, logs = 0, eta_before = std::nan("");
        int counted = 0;
        for (int t = 0; t < n_; ++t) {
            const size_t row = first_ + t;
            const double gap = data_.gap[row];
            double eta = at_.memory[row], log_s = at_.scale[row];
            for (int j = 0; j < d_; ++j) {
                eta += data_.zp[row * d_ + j] * v_[j];
                log_s += data_.zs[row * d_ + j] * v_[j];
            }
            const bool same = t > 0 && eta == eta_before && gap == data_.gap[row - 1];
            if (same)
                carry_[t] = carry_[t - 1];
            else if (data_.memory == Memory::clock)
                carry_[t] = by_clock(eta, gap);
            else
                carry_[t] = by_prompt(eta, gap, data_.memory == Memory::plain, at_.omega);
            eta_before = eta;
            const double a = carry_[t].a;
            double* h = h_.data() + static_cast<size_t>(t) * q_;
            double error = at_.deviation[row] - at_.input[row];
            for (int j = 0; j < data_.qm; ++j) h[j] = data_.zm[row * data_.qm + j];
            if (gap != 0) {
                error -= a * at_.deviation[row - 1];
                for (int j = 0; j < data_.qm; ++j) h[j] -= a * data_.zm[(row - 1) * data_.qm + j];
            }
            for (int j = 0; j < data_.qi; ++j) h[data_.qm + j] = data_.zi[row * data_.qi + j];
            for (int j = 0; j < q_; ++j) error -= h[j] * c_[j];
            error_[t] = error;
            if (gap == 0 && data_.given_starts) {
                precision_[t] = 0;
                continue;
            }
            log_s += 0.5 * carry_[t].log_g;
            const double w = std::exp(-2 * log_s);
            precision_[t] = w;
            logs += log_s;
            ++counted;
            squares += w * error * error;
            for (int j = 0; j < q_; ++j) {
                const double wh = w * h[j];
                b_[j] += wh * error;
                for (int k = 0; k <= j; ++k) A_[j * q_ + k] += wh * h[k];
            }
        }
        for (int j = 0; j < q_; ++j)
            for (int k = 0; k < j; ++k) A_[k * q_ + j] = A_[j * q_ + k];
        if (!solve()) return -std::numeric_limits<double>::infinity();
        double out = -0.5 * ((counted + d_) * log_two_pi + squares) - logs - 0.5 * log_det_;
        for (int j = 0; j < q_; ++j) out += 0.5 * lb_[j] * m_[j];
        for (int j = 0; j < d_; ++j) out -= 0.5 * u[j] * u[j];
        return std::isnan(out) ? -std::numeric_limits<double>::infinity() : out;
    }

    // After value(u): mean and covariance of b there, and derivatives of rows through `row`.
    // row(t, deviation, before, memory, scale, omega): what row t has to add.
    template <class Row>
    void slopes(Row&& row) {
        moments();
        std::fill(gb_.begin(), gb_.end(), 0.0);
        std::fill(gv_.begin(), gv_.end(), 0.0);
        for (int t = 0; t < n_; ++t) {
            const double w = precision_[t];
            if (w == 0) continue;
            const size_t at = first_ + t;
            const double* h = h_.data() + static_cast<size_t>(t) * q_;
            const bool start = data_.gap[at] == 0;
            double error = error_[t], spread = 0, beside = 0;
            double before = start ? 0.0 : at_.deviation[at - 1];
            const double* z = start ? nullptr : data_.zm.data() + (at - 1) * data_.qm;
            for (int j = 0; j < q_; ++j) {
                error -= h[j] * (mean_[j] - c_[j]);
                double Ch = 0;
                for (int k = 0; k < q_; ++k) Ch += C_[j * q_ + k] * h[k];
                spread += h[j] * Ch;
                if (!start && j < data_.qm) {
                    beside += z[j] * Ch;
                    before -= z[j] * mean_[j];
                }
            }
            const double e = error * w;
            const double excess = (error * error + spread) * w - 1;
            const double crossed = start ? 0.0 : (error * before + beside) * w;
            const double memory = crossed * carry_[t].da + 0.5 * excess * carry_[t].dlog_g;
            for (int j = 0; j < q_; ++j) gb_[j] += e * h[j];
            for (int j = 0; j < d_; ++j)
                gv_[j] += memory * data_.zp[at * d_ + j] + excess * data_.zs[at * d_ + j];
            row(at, e, start ? 0.0 : carry_[t].a * e, memory, excess,
                0.5 * excess * carry_[t].dlog_g_omega);
        }
    }

    // After slopes: the derivative in u.
    void in_u(const double* u, double* out) const {
        for (int k = 0; k < d_; ++k) {
            out[k] = -u[k];
            for (int j = k; j < d_; ++j) out[k] += at_.L[j * r_ + k] * gv_[j];
            for (int j = 0; j < q_; ++j) out[k] += at_.L[(d_ + j) * r_ + k] * gb_[j];
        }
    }

    // After slopes: share times the derivative in L is added to `out`.
    void in_factor(const double* u, double share, double* out) const {
        for (int j = 0; j < d_; ++j)
            for (int k = 0; k <= j; ++k) out[j * r_ + k] += share * gv_[j] * u[k];
        for (int j = 0; j < q_; ++j) {
            for (int k = 0; k < d_; ++k) out[(d_ + j) * r_ + k] += share * gb_[j] * u[k];
            for (int k = 0; k <= j; ++k) {
                double x = gb_[j] * m_[k];
                for (int l = 0; l < q_; ++l) x -= AL_[j * q_ + l] * P_[l * q_ + k];
                out[(d_ + j) * r_ + d_ + k] += share * x;
            }
        }
    }

    // After value: mean and covariance of b.
    void moments() {
        for (int j = 0; j < q_; ++j) {
            mean_[j] = c_[j];
            for (int k = 0; k <= j; ++k) mean_[j] += lower(j, k) * m_[k];
        }
        for (int j = 0; j < q_; ++j)
            for (int k = 0; k < q_; ++k) {
                double x = 0;
                for (int a = 0; a <= j; ++a)
                    for (int b = 0; b <= k; ++b) x += lower(j, a) * P_[a * q_ + b] * lower(k, b);
                C_[j * q_ + k] = x;
            }
    }

    int rows() const { return n_; }
    int first() const { return first_; }
    const Vector& effects() const { return v_; }
    const Vector& mean() const { return mean_; }
    const Vector& covariance() const { return C_; }

  private:
    double lower(int j, int k) const { return at_.L[(d_ + j) * r_ + d_ + k]; }

    // M = I + L'A L, its inverse P and log-determinant; m = P L'b.
    bool solve() {
        for (int j = 0; j < q_; ++j)
            for (int k = 0; k < q_; ++k) {
                double x = 0;
                for (int l = k; l < q_; ++l) x += A_[j * q_ + l] * lower(l, k);
                AL_[j * q_ + k] = x;
            }
        lb_.assign(q_, 0.0);
        for (int k = 0; k < q_; ++k)
            for (int l = k; l < q_; ++l) lb_[k] += lower(l, k) * b_[l];
        for (int j = 0; j < q_; ++j)
            for (int k = 0; k < q_; ++k) {
                double x = j == k ? 1.0 : 0.0;
                for (int l = j; l < q_; ++l) x += lower(l, j) * AL_[l * q_ + k];
                M_[j * q_ + k] = x;
            }
        log_det_ = 0;
        for (int j = 0; j < q_; ++j) {
            for (int k = 0; k <= j; ++k) {
                double x = M_[j * q_ + k];
                for (int l = 0; l < k; ++l) x -= M_[j * q_ + l] * M_[k * q_ + l];
                if (j == k) {
                    if (!(x > 0) || !std::isfinite(x)) return false;
                    M_[j * q_ + j] = std::sqrt(x);
                    log_det_ += std::log(x);
                } else {
                    M_[j * q_ + k] = x / M_[k * q_ + k];
                }
            }
        }
        for (int c = 0; c < q_; ++c) {
            column_.assign(q_, 0.0);
            column_[c] = 1;
            substitute(column_);
            for (int j = 0; j < q_; ++j) P_[j * q_ + c] = column_[j];
        }
        m_ = lb_;
        substitute(m_);
        return true;
    }

    void substitute(Vector& x) const {
        for (int j = 0; j < q_; ++j) {
            for (int k = 0; k < j; ++k) x[j] -= M_[j * q_ + k] * x[k];
            x[j] /= M_[j * q_ + j];
        }
        for (int j = q_ - 1; j >= 0; --j) {
            for (int k = j + 1; k < q_; ++k) x[j] -= M_[k * q_ + j] * x[k];
            x[j] /= M_[j * q_ + j];
        }
    }

    const DynamicData& data_;
    const DynamicPoint& at_;
    int d_, q_, r_, first_ = 0, n_ = 0;
    double log_det_ = 0;
    Vector v_, c_, A_, b_, M_, m_, P_, AL_, C_, mean_, gb_, gv_, lb_, column_;
    Vector precision_, error_, h_;
    std::vector<Carry> carry_;
};

void place(const DynamicNodes& nodes, int d, int person, int node, double* u) {
    const double* x = nodes.x + static_cast<size_t>(node) * d;
    const double* S = nodes.scale + static_cast<size_t>(person) * d * d;
    for (int j = 0; j < d; ++j) {
        u[j] = nodes.mode[static_cast<size_t>(person) * d + j];
        for (int k = 0; k <= j; ++k) u[j] += S[j * d + k] * x[k];
    }
}

double log_scale(const DynamicNodes& nodes, int d, int person) {
    double out = 0;
    for (int j = 0; j < d; ++j)
        out += std::log(std::abs(nodes.scale[(static_cast<size_t>(person) * d + j) * d + j]));
    return out;
}

// Values at all nodes of a person, as shares of its integral; returns the integral's log.
double shares_of(Person& work, const DynamicNodes& nodes, int d, int person, Vector& share) {
    Vector u(d);
    double top = -std::numeric_limits<double>::infinity();
    for (int k = 0; k < nodes.count; ++k) {
        place(nodes, d, person, k, u.data());
        share[k] = work.value(u.data()) + nodes.log_w[k];
        top = std::max(top, share[k]);
    }
    if (!std::isfinite(top)) return top;
    double total = 0;
    for (double& x : share) total += (x = std::exp(x - top));
    for (double& x : share) x /= total;
    return top + std::log(total) + log_scale(nodes, d, person);
}

template <class Each>
void for_persons(const DynamicData& data, const DynamicPoint& at, int threads, Each&& each) {
    const int N = data.persons(), parts = std::min(chunks, N);
    const auto bounds = partition(static_cast<size_t>(N), std::max(parts, 1));
    for_tasks(parts, threads, [&](int c) {
        Person work(data, at);
        for (size_t i = bounds[c]; i < bounds[c + 1]; ++i) {
            work.take(static_cast<int>(i));
            each(work, static_cast<int>(i));
        }
    });
}

} // namespace

void dynamic_evaluate(const DynamicData& data, const DynamicPoint& at, const DynamicNodes& nodes,
                      const DynamicResult& out, int threads) {
    const int d = data.d, q = data.q(), r = data.r();
    for_persons(data, at, threads, [&](Person& work, int i) {
        Vector share(nodes.count), u(d);
        out.loglik[i] = shares_of(work, nodes, d, i, share);
        if (out.L == nullptr || !std::isfinite(out.loglik[i])) return;
        double* L = out.L + static_cast<size_t>(i) * r * r;
        double* mean = out.mean + static_cast<size_t>(i) * r;
        double* second = out.second + static_cast<size_t>(i) * r * r;
        Vector all(r);
        for (int k = 0; k < nodes.count; ++k) {
            const double s = share[k];
            if (s < least_share) continue;
            place(nodes, d, i, k, u.data());
            work.value(u.data());
            work.slopes(
                [&](size_t t, double e, double before, double memory, double scale, double omega) {
                    out.deviation[t] -= s * e;
                    if (before != 0) out.deviation[t - 1] += s * before;
                    out.input[t] += s * e;
                    out.memory[t] += s * memory;
                    out.scale[t] += s * scale;
                    out.omega[i] += s * omega;
                });
            work.in_factor(u.data(), s, L);
            std::copy(work.effects().begin(), work.effects().end(), all.begin());
            std::copy(work.mean().begin(), work.mean().end(), all.begin() + d);
            for (int a = 0; a < r; ++a) {
                mean[a] += s * all[a];
                for (int b = 0; b < r; ++b) second[a * r + b] += s * all[a] * all[b];
            }
            for (int a = 0; a < q; ++a)
                for (int b = 0; b < q; ++b)
                    second[(d + a) * r + d + b] += s * work.covariance()[a * q + b];
        }
    });
}

namespace {

// Newton's search of one person.
class ModeSearch {
  public:
    ModeSearch(Person& work, int d) : work_(work), d_(d), H_(d * d), g_(d), step_(d), trial_(d) {}

    int run(double* u, double* S) {
        double value = work_.value(u);
        int count = 0;
        for (; count < 60; ++count) {
            slope(u, g_.data());
            curvature(u);
            if (!factor()) return -1;
            step_ = g_;
            solve(step_);
            double decrement = 0;
            for (int j = 0; j < d_; ++j) decrement += step_[j] * g_[j];
            if (!(decrement > 1e-16)) break;
            double length = 1, next = 0;
            for (int halved = 0; halved < 40; ++halved, length /= 2) {
                for (int j = 0; j < d_; ++j) trial_[j] = u[j] + length * step_[j];
                next = work_.value(trial_.data());
                if (next >= value - 1e-12 * std::abs(value)) break;
            }
            if (!(next >= value - 1e-12 * std::abs(value))) break;
            value = next;
            std::copy(trial_.begin(), trial_.end(), u);
        }
        inverse_factor(S);
        return count;
    }

  private:
    void slope(const double* u, double* g) {
        work_.value(u);
        work_.slopes([](size_t, double, double, double, double, double) {});
        work_.in_u(u, g);
    }

    // Minus the second derivatives, by central differences of the first.
    void curvature(const double* u) {
        constexpr double h = 1e-4;
        Vector up(d_), down(d_), at(u, u + d_);
        for (int k = 0; k < d_; ++k) {
            at[k] = u[k] + h;
            slope(at.data(), up.data());
            at[k] = u[k] - h;
            slope(at.data(), down.data());
            at[k] = u[k];
            for (int j = 0; j < d_; ++j) H_[j * d_ + k] = (down[j] - up[j]) / (2 * h);
        }
        for (int j = 0; j < d_; ++j)
            for (int k = 0; k < j; ++k)
                H_[j * d_ + k] = H_[k * d_ + j] = (H_[j * d_ + k] + H_[k * d_ + j]) / 2;
    }

    // Cholesky of the curvature, raised where it is not definite.
    bool factor() {
        double ridge = 0;
        for (int tries = 0; tries < 60; ++tries) {
            if (cholesky(ridge)) return true;
            ridge = ridge == 0 ? 1e-3 : 4 * ridge;
        }
        return false;
    }

    bool cholesky(double ridge) {
        F_ = H_;
        for (int j = 0; j < d_; ++j) F_[j * d_ + j] += ridge;
        for (int j = 0; j < d_; ++j)
            for (int k = 0; k <= j; ++k) {
                double x = F_[j * d_ + k];
                for (int l = 0; l < k; ++l) x -= F_[j * d_ + l] * F_[k * d_ + l];
                if (j == k) {
                    if (!(x > 1e-10) || !std::isfinite(x)) return false;
                    F_[j * d_ + j] = std::sqrt(x);
                } else {
                    F_[j * d_ + k] = x / F_[k * d_ + k];
                }
            }
        return true;
    }

    void solve(Vector& x) const {
        for (int j = 0; j < d_; ++j) {
            for (int k = 0; k < j; ++k) x[j] -= F_[j * d_ + k] * x[k];
            x[j] /= F_[j * d_ + j];
        }
        for (int j = d_ - 1; j >= 0; --j) {
            for (int k = j + 1; k < d_; ++k) x[j] -= F_[k * d_ + j] * x[k];
            x[j] /= F_[j * d_ + j];
        }
    }

    // The lower factor of (F F')^-1.
    void inverse_factor(double* S) const {
        Vector V(static_cast<size_t>(d_) * d_), column(d_);
        for (int c = 0; c < d_; ++c) {
            std::fill(column.begin(), column.end(), 0.0);
            column[c] = 1;
            solve(column);
            for (int j = 0; j < d_; ++j) V[j * d_ + c] = column[j];
        }
        for (int j = 0; j < d_; ++j)
            for (int k = 0; k < d_; ++k) {
                if (k > j) {
                    S[j * d_ + k] = 0;
                    continue;
                }
                double x = V[j * d_ + k];
                for (int l = 0; l < k; ++l) x -= S[j * d_ + l] * S[k * d_ + l];
                S[j * d_ + k] = j == k ? std::sqrt(std::max(x, 1e-20)) : x / S[k * d_ + k];
            }
    }

    Person& work_;
    int d_;
    Vector H_, F_, g_, step_, trial_;
};

} // namespace

void dynamic_modes(const DynamicData& data, const DynamicPoint& at, double* mode, double* scale,
                   int* steps, int threads) {
    const int d = data.d;
    for_persons(data, at, threads, [&](Person& work, int i) {
        double* S = scale + static_cast<size_t>(i) * d * d;
        steps[i] = ModeSearch(work, d).run(mode + static_cast<size_t>(i) * d, S);
        if (steps[i] >= 0) return;
        for (int j = 0; j < d; ++j)
            for (int k = 0; k < d; ++k) S[j * d + k] = j == k ? 1.0 : 0.0;
    });
}

void dynamic_shares(const DynamicData& data, const DynamicPoint& at, const DynamicNodes& nodes,
                    double* share, double* mean, double* covariance, int threads) {
    const int d = data.d, q = data.q();
    for_persons(data, at, threads, [&](Person& work, int i) {
        Vector own(nodes.count), u(d);
        shares_of(work, nodes, d, i, own);
        for (int k = 0; k < nodes.count; ++k) {
            const size_t cell = static_cast<size_t>(i) * nodes.count + k;
            share[cell] = own[k];
            place(nodes, d, i, k, u.data());
            work.value(u.data());
            work.moments();
            std::copy(work.mean().begin(), work.mean().end(), mean + cell * q);
            std::copy(work.covariance().begin(), work.covariance().end(),
                      covariance + cell * q * q);
        }
    });
}

} // namespace ranef
