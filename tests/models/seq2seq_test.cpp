#include "cajal/models/seq2seq/seq2seq.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cajal::seq2seq {
namespace {

Seq2SeqOptions small(FfnPlan encoder = {"own", "own"}, FfnPlan decoder = {"own", "own"}) {
  Seq2SeqOptions o{.vocabulary = 30, .width = 16, .heads = 2, .neurons = 32};
  o.encoder = std::move(encoder), o.decoder = std::move(decoder), o.dropout = 0, o.context = 20;
  return o;
}

Seq2Seq model(const Seq2SeqOptions& options) {
  torch::manual_seed(1);
  Seq2Seq out(options);
  out->eval();
  return out;
}

torch::Tensor ids(int64_t batch, int64_t words) {
  torch::manual_seed(8);
  return torch::randint(3, 30, {batch, words}, torch::kLong);
}

TEST(Seq2Seq, DecodingStepByStepEqualsTheFullPass) {
  for (const bool post : {false, true}) {
    auto options = small({"shared:a", "shared:a"}, {"none", "own"});
    options.post_norm = post;
    auto m = model(options);
    const torch::NoGradGuard no_grad;
    auto source = ids(3, 6);
    source[1][5] = 0;
    const auto target = ids(3, 5), full = m->forward(source, target);
    const auto memory = m->encode(source);
    DecoderCache cache;
    for (int64_t t = 0; t < 5; ++t) {
      const auto step = m->step(memory, target.select(1, t), cache);
      EXPECT_LT((step - full.select(1, t)).abs().max().item<double>(), 1e-5);
    }
  }
}

TEST(Seq2Seq, PaddingOfTheSourceChangesNothing) {
  auto m = model(small());
  const torch::NoGradGuard no_grad;
  const auto source = ids(1, 6), target = ids(1, 4);
  const auto padded = torch::cat({source, torch::zeros({1, 3}, torch::kLong)}, 1);
  EXPECT_LT((m->forward(source, target) - m->forward(padded, target)).abs().max().item<double>(),
            1e-5);
}

TEST(Seq2Seq, ASharedNetworkExistsOnce) {
  const auto own = model(small()), shared = model(small({"shared:a", "shared:a"}));
  const int64_t network = 2 * 16 * 32 + 32 + 16;
  EXPECT_EQ(own->parameter_count() - shared->parameter_count(), network);
  EXPECT_EQ(shared->ffn_parameters(true), network);
  EXPECT_EQ(shared->ffn_parameters(false), 2 * network);
}

TEST(Seq2Seq, NoneRemovesTheNetworkWithItsNorm) {
  const auto own = model(small()), none = model(small({"own", "own"}, {"none", "none"}));
  EXPECT_EQ(own->parameter_count() - none->parameter_count(), 2 * (2 * 16 * 32 + 32 + 16 + 2 * 16));
}

TEST(Seq2Seq, OneWideHasAsManyParametersAsTheBaseline) {
  auto base = small();
  base.width = 64, base.neurons = 256, base.encoder = base.decoder = FfnPlan(6, "own");
  const auto own = static_cast<double>(model(base)->parameter_count()),
             wide = static_cast<double>(model(planned(base, "one_wide"))->parameter_count());
  EXPECT_LT(std::abs(wide / own - 1), 0.005);
  EXPECT_EQ(planned(base, "one_wide").decoder, FfnPlan(6, "none"));
}

TEST(Seq2Seq, SharedEncoderWithoutDecoderNetworksSavesWhatTheFormulaSays) {
  auto base = small();
  base.width = 64, base.neurons = 256, base.encoder = base.decoder = FfnPlan(6, "own");
  const int64_t embedding = base.vocabulary * 64, network = 2 * 64 * 256 + 256 + 64;
  const auto own = model(base)->parameter_count() - embedding;
  const auto left = model(planned(base, "shared_enc_no_dec"))->parameter_count() - embedding;
  EXPECT_EQ(own - left, 11 * network + 6 * 2 * 64);
  EXPECT_GT(static_cast<double>(own - left) / static_cast<double>(own), 0.37);
}

TEST(Seq2Seq, ADecodedWordReadsNothingOfTheEncoder) {
  const auto base = small();
  const auto own = model(base), none = model(planned(base, "no_enc"));
  EXPECT_EQ(own->decoder_parameters(), none->decoder_parameters());
  const int64_t norms = 2 * 2 * 16, final_norm = 2 * 16, attention = 4 * (16 * 16 + 16);
  EXPECT_EQ(own->parameter_count() - own->decoder_parameters(),
            own->ffn_parameters(true) + 2 * (attention + norms) + final_norm);
}

TEST(Seq2Seq, RivalsHaveTheParametersTheyAreNamedFor) {
  auto base = small();
  base.width = 64, base.neurons = 256, base.encoder = base.decoder = FfnPlan(6, "own");
  const auto count = [&](const char* name) {
    return static_cast<double>(model(planned(base, name))->parameter_count());
  };
  EXPECT_NEAR(count("small_ff") / count("shared_enc_no_dec"), 1, 0.01);
  EXPECT_NEAR(count("deep_shallow") / count("baseline"), 1, 0.03);
  EXPECT_EQ(planned(base, "deep_shallow").decoder.size(), 1u);
  EXPECT_LT(count("shared_layers"), count("baseline"));
}

TEST(Seq2Seq, ABeamOfOneIsGreedy) {
  auto m = model(small());
  const auto source = ids(1, 6);
  const auto words = greedy(m, source, 8)[0];
  if (words.size() < 8) {
    EXPECT_EQ(beam(m, source, 8, 1, 0.6), words);
  }
  EXPECT_LE(beam(m, source, 8, 5, 0.6).size(), 8u);
}

TEST(Seq2Seq, RefusesAPlanAndAWidthThatMakeNoModel) {
  EXPECT_THROW(model(small({"own", "shared:"})), Error);
  EXPECT_THROW(planned(small(), "onewide"), Error);
  auto o = small();
  o.heads = 3;
  EXPECT_THROW(model(o), Error);
}

}  // namespace
}  // namespace cajal::seq2seq
