// Whether the optimum that a search found is the best there is.
//
// A criterion may have several minima (a pooled and a within-group slope that contradict
// each other, say). With one parameter its whole range is looked at. With several the search
// is repeated from other starts, as many as a stated number of operations allows: where groups
// are few, which is where other minima occur, that is nothing beside the rest of a fit.
#pragma once

#include "newton.hpp"
#include "profile.hpp"

namespace ranef {

struct LinearProblem {
    const Blocks& blocks;
    const Response& response;
    bool reml;
    int threads;
};

// Replaces `best` by a better optimum if there is one, and says in it what was looked at;
// true where it was replaced. several: whether other starts are tried where there are several
// parameters.
bool search_elsewhere(const LinearProblem& problem, bool several, const SearchOptions& options,
                      Outcome& best);

// The same along the profile of the one parameter.
bool search_valleys(Objective& objective, const Profile& profile, const Response& response,
                    const SearchOptions& options, Outcome& best);

// Operations of one evaluation with derivatives, roughly.
double operations(const Blocks& blocks);

} // namespace ranef
