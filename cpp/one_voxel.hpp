// One voxel by itself, where the profile of tau^2 has several maxima.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "voxel_sums.hpp"

namespace ranef {

namespace {

template <int P>
struct Alone {
    std::vector<double> y, v;
    const double* X;
    bool restricted;

    using One = Quadratics<P, double>;

    One at(double t) const {
        Sums<P, double> sums;
        One out;
        solved<P, double, 3>(y.data(), v.data(), X, y.size(), t, sums, out);
        // sums of squares around the mean itself: digits are not lost to its size
        out.q1 = out.q2 = out.q3 = 0;
        double u[P] = {};
        for (std::size_t k = 0; k < y.size(); ++k) {
            const double w = 1 / (v[k] + t);
            double r = y[k];
            for (int a = 0; a < P; ++a) r -= X[k * P + a] * out.beta[a];
            const double wr = w * r;
            out.q1 += wr * r;
            out.q2 += wr * wr;
            out.q3 += w * wr * wr;
            for (int a = 0; a < P; ++a) u[a] += w * wr * X[k * P + a];
        }
        out.q3 -= form<P, double>(u, out.bread, u);
        return out;
    }
    double part(const One& at) const { return restricted ? at.trace1 : at.weight1; }
    double second(const One& at) const { return restricted ? at.trace2 : at.weight2; }
    double relative(const One& at) const { return at.q2 / part(at) - 1; }
    double bend(const One& at) const { return at.q2 * second(at) - 2 * at.q3 * part(at); }

    double loglik(double t) const {
        const One now = at(t);
        double value = -now.q1;
        for (double one : v)
            if (!std::isinf(one)) value -= std::log(one + t);
        if (restricted) { // log det of the inverse of X'WX, by its factor
            double F[P][P] = {};
            for (int j = 0; j < P; ++j)
                for (int i = j; i < P; ++i) {
                    double e = now.bread[i][j];
                    for (int k = 0; k < j; ++k) e -= F[i][k] * F[j][k];
                    F[i][j] = i == j ? std::sqrt(e) : e / F[j][j];
                }
            for (int j = 0; j < P; ++j) value += 2 * std::log(F[j][j]);
        }
        return value / 2;
    }

    // Newton for part / q2 = 1, which is nearly a line, kept between low and high.
    double root(double low, double high) const {
        double t = 0.5 * (low + high);
        for (int step = 0; step < 200; ++step) {
            const One now = at(t);
            (relative(now) > 0 ? low : high) = t;
            const double slope = -bend(now);
            double next = t - (part(now) - now.q2) * now.q2 / slope;
            if (!(slope > 0) || !(next > low && next < high)) next = 0.5 * (low + high);
            if (std::abs(next - t) <= 1e-15 * std::max(next, t)) return next;
            t = next;
        }
        return t;
    }

    double best(double least, double turns, double end, double& maxima) const {
        std::vector<double> roots;
        const int count =
            static_cast<int>(std::min(4000.0, std::ceil(8 * std::log2(1 + turns / least)) + 2));
        double before = 0, bent = 0, last = 0;
        for (int i = 0; i <= count; ++i) {
            const double t = i == count
                                 ? end * (1 + 1e-9)
                                 : least * std::expm1(std::log1p(turns / least) * i / (count - 1));
            const One now = at(t);
            const double value = relative(now), curve = bend(now);
            if (i == 0 && value <= 0) roots.push_back(0.0);
            if (i > 0) {
                const bool hump = before <= 0 && value <= 0 && bent > 0 && curve < 0;
                const bool dip = before > 0 && value > 0 && bent < 0 && curve > 0;
                if (before > 0 && value <= 0)
                    roots.push_back(root(last, t));
                else if (hump || dip) {
                    double old = before, from = last;
                    for (int j = 1; j <= 200; ++j) {
                        const double here = last + (t - last) * j / 200;
                        const double now_here = j == 200 ? value : relative(at(here));
                        if (old > 0 && now_here <= 0) roots.push_back(root(from, here));
                        old = now_here;
                        from = here;
                    }
                }
            }
            before = value;
            bent = curve;
            last = t;
        }
        maxima = static_cast<double>(roots.size());
        double top = -std::numeric_limits<double>::infinity(), found = 0;
        for (double one : roots) {
            const double value = loglik(one);
            if (value > top) {
                top = value;
                found = one;
            }
        }
        return found;
    }
};

} // namespace

} // namespace ranef
