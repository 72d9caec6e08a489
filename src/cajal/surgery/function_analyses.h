#pragma once
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cajal/surgery/function_world.h"
#include "cajal/surgery/specialisation.h"

// What the neurons of a world of functions turn out to be for, as lines of figures under a name.
// Source: Xiao et al. 2024, arXiv 2409.02877; dossier bricks, analyses A1 to A5.
namespace cajal::surgery {

using Line = std::pair<std::string, std::vector<double>>;

/// Share of the neurons called special for some function, {trained, untrained}, by each null:
/// "beyond the byte" or "norms", ", windows shuffled" or ", tokens shuffled".
std::vector<Line> specialisation_lines(const FunctionWorld& world, int64_t tokens,
                                       int64_t shuffles);

/// Loss added to each function by silencing `share` of all neurons, and own over the others' mean
/// (others of no more than 1e-6 count as that): the neurons that fire for the function more often
/// than for others (under its name), random ones ("random, judged for " it) and others of equal
/// mean activity ("of equal activity, judged for " it). Then "overlap " function, the Jaccard index
/// of the first kind with each function's; "specific", {functions with a ratio of 3 or more, mean
/// ratio of random neurons}.
std::vector<Line> pruning_lines(const FunctionWorld& world, int64_t tokens, double share);

/// Communities of each layer's neurons, "trained, layer 0": Q, its null's mean, z, correlation
/// within and between groups, adjusted Rand index of two halves of the text.
std::vector<Line> community_lines(const FunctionWorld& world, int64_t tokens, int64_t groups,
                                  int64_t nulls);

/// Relative loss on each function, and in "mean", of a network of the `kept` neurons a layer that
/// are best by: mean norm on the function, Wanda on it, use on it, Wanda on all, weights, chance.
std::vector<Line> network_lines(const FunctionWorld& world, int64_t tokens, int64_t kept);

/// Share of `queries` excerpts of 32 bytes of each function's test text whose function's key, the
/// embedding of a part of its training text, is the likest.
double retrieved_share(const FunctionWorld& world, int64_t queries);

}  // namespace cajal::surgery
