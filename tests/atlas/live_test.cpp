#include "cajal/atlas/live.h"

#include <gtest/gtest.h>

#include "cajal/atlas/measure.h"
#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"
#include "core/scratch.h"

namespace cajal::atlas {
namespace {

// A model of bytes with 2 layers of 24 neurons.
class LiveText : public Scratch {
 protected:
  LiveText() {
    auto model = lm::initialise(lm::config_from_json({{"model_type", "llama"},
                                                      {"hidden_size", 16},
                                                      {"intermediate_size", 24},
                                                      {"num_hidden_layers", 2},
                                                      {"num_attention_heads", 2},
                                                      {"vocab_size", 256},
                                                      {"max_position_embeddings", 40},
                                                      {"tie_word_embeddings", true}},
                                                     "test"),
                                1, 0.5);
    lm::save(model, in("model"), Dtype::f32);
  }
};

TEST_F(LiveText, NamesTheStrongestNeuronsOfEveryTokenInEveryLayer) {
  Live live(in("model"));
  const auto answer = live.strongest("abcde");
  EXPECT_EQ(answer["tokens"].size(), 5u);
  ASSERT_EQ(answer["layers"].size(), 2u);
  for (const auto& layer : answer["layers"]) {
    ASSERT_EQ(layer.size(), 5u);
    for (const auto& token : layer) {
      ASSERT_EQ(token.size(), 8u);
      double sum = 0;
      for (size_t k = 0; k < token.size(); ++k) {
        sum += token[k][2].get<double>();
        EXPECT_LE(token[k][2], token[k > 0 ? k - 1 : 0][2]);  // the strongest first
      }
      EXPECT_LE(sum, 1.0001);
    }
  }
}

TEST_F(LiveText, FollowsANeuronWithTheSameActivations) {
  Live live(in("model"));
  const auto best = live.strongest("abcde")["layers"][1][3][0];
  const auto followed = live.follow("abcde", 1, best[0].get<int64_t>());
  EXPECT_FLOAT_EQ(followed["activations"][3].get<float>(), best[1].get<float>());
}

TEST_F(LiveText, CutsWhatTheModelCannotRead) {
  const auto answer = Live(in("model")).strongest(std::string(100, 'a'));
  EXPECT_EQ(answer["cut"], true);
  EXPECT_LE(answer["tokens"].size(), 40u);
}

TEST_F(LiveText, RefusesTextsAndNeuronsOutOfRange) {
  Live live(in("model"));
  EXPECT_NE(error_of([&] { live.strongest(std::string(2001, 'a')); }), "");
  EXPECT_NE(error_of([&] { live.strongest(""); }), "");
  EXPECT_NE(error_of([&] { live.follow("a", 2, 0); }), "");
  EXPECT_NE(error_of([&] { live.follow("a", 0, 24); }), "");
  EXPECT_NE(error_of([&] { live.follow("a", -1, -1); }), "");
}

TEST_F(LiveText, HasTheHashOfItsAtlas) {
  EXPECT_EQ(Live(in("model")).hash(), fingerprint(lm::load(in("model"))));
}

}  // namespace
}  // namespace cajal::atlas
