#pragma once
#include <optional>

#include "cajal/core/options.h"

namespace cajal::train {

enum class Rule { adamw, muon };
enum class Schedule { constant, linear, cosine, wsd };
enum class Precision { fp32, bf16 };
enum class Weights { last, average };

/// How a run trains. docs/training.md explains each field and when to change it.
struct Options {
  int64_t steps = 1000;
  int64_t accumulate = 1;  // micro-batches that make the gradient of one step, in each process

  Rule optimizer = Rule::adamw;  // muon: orthogonalised momentum for hidden matrices, AdamW else
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double momentum = 0.95;     // of muon
  double weight_decay = 0.1;  // decoupled, on parameters of two axes and more
  double clip = 1;            // of the gradient's norm over all parameters; 0 = none

  Schedule schedule = Schedule::cosine;
  int64_t warmup_steps = 0;
  double final_rate = 0;     // share of the learning rate that the schedule ends at
  double decay_share = 0.2;  // wsd: share of the steps that decay linearly at the end

  double average = 0;                  // decay of the moving average of the weights; 0 = none
  Weights weights = Weights::average;  // which are evaluated and kept, where there is an average

  std::optional<Precision> precision;  // null: what the task prefers on the device
  bool cuda_graph = true;              // one recorded graph a step where the task allows it

  int64_t evaluate_every = 0, save_every = 0, log_every = 10;  // steps; 0 = only at the end
};
CAJAL_OPTIONS(Options, steps, accumulate, optimizer, learning_rate, beta1, beta2, epsilon, momentum,
              weight_decay, clip, schedule, warmup_steps, final_rate, decay_share, average, weights,
              precision, cuda_graph, evaluate_every, save_every, log_every)

/// Throws Error naming the field when a value makes no sense.
void check(const Options& options);

/// Learning rate of step `step` (0 is the first).
double rate_at(const Options& options, int64_t step);

}  // namespace cajal::train

CAJAL_ENUM(cajal::train::Rule, {cajal::train::Rule::adamw, "adamw"},
           {cajal::train::Rule::muon, "muon"})
CAJAL_ENUM(cajal::train::Schedule, {cajal::train::Schedule::constant, "constant"},
           {cajal::train::Schedule::linear, "linear"}, {cajal::train::Schedule::cosine, "cosine"},
           {cajal::train::Schedule::wsd, "wsd"})
CAJAL_ENUM(cajal::train::Precision, {cajal::train::Precision::fp32, "fp32"},
           {cajal::train::Precision::bf16, "bf16"})
CAJAL_ENUM(cajal::train::Weights, {cajal::train::Weights::last, "last"},
           {cajal::train::Weights::average, "average"})
