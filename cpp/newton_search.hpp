// One search by Newton's method: its state, and its steps. The descent stands in `newton.cpp`, the
// boundary (variances of zero, correlations of one) in `newton_faces.cpp`.
#pragma once

#include "newton.hpp"

namespace ranef {

inline size_t square_at(int i, int j, int ld) {
    return static_cast<size_t>(j) * ld + i;
}

struct TermState {
    int factor, first, r, offset, parameters;
    const Structure* structure;
    int rank;               // us: columns kept
    std::vector<char> zero; // diag: variances held at zero
    bool gone = false;      // others: Psi held at zero
    int releases = 0;
    bool diagonal;
};

class Search {
  public:
    Search(Objective& objective, const SearchOptions& options)
        : c_(objective), options_(options), K_(objective.parameters()) {
        for (size_t f = 0; f < c_.blocks().factors.size(); ++f)
            for (const Term& term : c_.blocks().factors[f].terms) {
                const Structure* s = term.structure.get();
                TermState state{static_cast<int>(f),
                                term.first,
                                s->r,
                                term.offset,
                                term.parameters,
                                s,
                                s->r,
                                std::vector<char>(s->r, 0),
                                false,
                                0,
                                false};
                state.diagonal = s->free_scale() && !s->unstructured();
                terms_.push_back(state);
            }
        out_.free.assign(K_, 1);
    }

    Outcome run(const Vector& start);

  private:
    double evaluate(const Vector& phi);
    bool descend();
    bool lost();
    bool digits_lost();
    bool fall_on();
    void step_back();
    void polish();
    void differentiate();
    void differentiate_after(const Vector& s, bool near);
    void decompose();
    double step(double radius, Vector& s) const;
    void mark_free();
    void learn(const Vector& s, const Vector& old_gradient);
    void try_faces();
    bool step_onto_faces(double threshold, bool final);
    bool leave_faces();
    Vector term_block(const Vector& full, const TermState& t) const;
    bool held(int i) const { return !options_.held.empty() && options_.held[i]; }
    bool out_of_budget() const {
        return out_.stopped || out_.evaluations >= options_.max_evaluations;
    }

    Objective& c_;
    const SearchOptions& options_;
    int K_;
    std::vector<TermState> terms_;
    Outcome out_;
    Vector phi_, g_, H_;
    Vector secant_;                       // correction of the Hessian by what was seen
    std::vector<int> index_;              // free parameters
    Vector values_, vectors_, projected_; // of H on the free parameters
    double f_ = 0, decrement_ = 0, tolerance_ = 0, radius_ = 2;
    int broken_ = 0;
};

} // namespace ranef
