#pragma once
#include "cajal/models/lm/transformer.h"
#include "cajal/surgery/moments.h"
#include "cajal/surgery/plan.h"

namespace cajal::surgery {

/// The rows of the neurons of one FFN, one row a neuron, fp32, under the numbers that the neurons
/// had in the original model.
struct NeuronRows {
  torch::Tensor key, gate, value;     // [neurons, width]; gate undefined unless gated
  torch::Tensor key_bias, gate_bias;  // [neurons] or undefined

  int64_t neurons() const { return key.size(0); }
  /// The rows listed in `order`, or all as they are when it is empty.
  NeuronRows select(const std::vector<int32_t>& order) const;
  NeuronRows pick(const torch::Tensor& index) const;
  NeuronRows slice(int64_t begin, int64_t end) const;
};
NeuronRows neuron_rows(const lm::FeedForward& ffn);

/// What the neurons do on x [tokens, width]: activations [tokens, neurons].
torch::Tensor activations(const lm::Config& config, const NeuronRows& rows, const torch::Tensor& x);

/// The rows in a format and back: [rows, columns] fp32 -> u8 [rows, row_bytes], or a float tensor
/// for the formats that stand alone. Throws Error when rows do not fill whole blocks.
torch::Tensor encode(Format format, const torch::Tensor& rows);
torch::Tensor decode(Format format, const torch::Tensor& stored, int64_t columns);
/// What remains of the rows after `storage`: decode(encode(.)), or the truncated SVD, weighted by
/// the second moment [columns, columns] of what they are multiplied with. Throws Error for a
/// weighted low rank without one.
torch::Tensor kept(const Storage& storage, const torch::Tensor& rows,
                   const torch::Tensor& moment = {});

/// Rebuilds one FFN by a plan for its layer. Dropped neurons leave their mean output, from the
/// census, in the value bias. Weighted low ranks need `moments`.
lm::FeedForward split(const lm::FeedForward& ffn, const LayerPlan& plan,
                      const atlas::LayerCensus& census, const Moments& moments = {});

/// The FFN with the values of these neurons (by their original numbers) set to 0: they write
/// nothing.
lm::FeedForward silence(const lm::FeedForward& ffn, const std::vector<int32_t>& neurons);

/// Rebuilds every FFN of a model in memory. Throws Error when plan and model do not fit; the model
/// is then as it was. All layers must keep as many neurons.
void split(lm::Transformer& model, const Plan& plan, const atlas::Census& census,
           std::span<const Moments> moments = {});

}  // namespace cajal::surgery
