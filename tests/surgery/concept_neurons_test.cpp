#include "cajal/surgery/concept_neurons.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/surgery/subject_tuning.h"
#include "cajal/surgery/subject_world.h"

namespace cajal::surgery {
namespace {

using torch::Tensor;

diffusion::TextToImage tiny(int64_t seed = 1) {
  torch::manual_seed(seed);
  return diffusion::TextToImage(diffusion::TextToImageOptions{.size = 8,
                                                              .channels = {4, 4},
                                                              .blocks = 1,
                                                              .groups = 2,
                                                              .time = 4,
                                                              .time_hidden = 4,
                                                              .heads = 2,
                                                              .inner = 4,
                                                              .text_width = 8});
}

Subject some_subject() {
  const auto words = torch::randint(20, {3, 12}, torch::kLong);
  return {torch::randn({3, 1, 8, 8}), words, torch::randn({3, 1, 8, 8}), words.roll(1, 1)};
}

IndexLists random_lists(uint64_t seed, double share) {
  Random random(seed);
  IndexLists out;
  for (const int64_t size : {1000, 1, 0, 70000}) {
    out.sizes.push_back(size);
    auto& list = out.indices.emplace_back();
    for (int64_t i = 0; i < size; ++i)
      if (random.uniform() < share) list.push_back(i);
  }
  return out;
}

TEST(IndexLists, AreReadBackAsTheyWere) {
  for (const double share : {0.0, 0.01, 0.5, 1.0}) {
    const auto lists = random_lists(3, share);
    EXPECT_EQ(decode(encode(lists), "mask"), lists);
  }
}

TEST(IndexLists, TakeAboutAByteAnIndexWhenSparse) {
  const auto lists = random_lists(4, 0.02);
  EXPECT_LT(std::ssize(encode(lists)), 1.2 * static_cast<double>(lists.count()));
}

TEST(IndexLists, EveryCutAndEveryChangedByteIsRefusedOrSound) {
  const auto lists = random_lists(5, 0.001);
  const auto bytes = encode(lists);
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_THROW(decode(bytes.substr(0, n), "m"), Error);
  EXPECT_THROW(decode(bytes + '\0', "m"), Error);
  Random random(6);
  for (int i = 0; i < 3000; ++i) {
    auto bad = bytes;
    bad[random.below(bad.size())] = static_cast<char>(random.below(256));
    try {
      check(decode(bad, "m"));
    } catch (const Error&) {
    }
  }
  EXPECT_THROW(decode("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "m"), Error);
}

TEST(IndexLists, ShutAndRestoreBitByBit) {
  const auto weights = std::vector{torch::randn({40, 25}), torch::randn({1, 1}),
                                   torch::randn({0, 3}), torch::randn({700, 100})};
  std::vector<Tensor> before;
  for (const auto& w : weights) before.push_back(w.clone());
  const auto lists = random_lists(7, 0.1);
  const auto values = shut(weights, lists);
  EXPECT_EQ(weights[3].eq(0).sum().item<int64_t>(), std::ssize(lists.indices[3]));
  restore(weights, lists, values);
  for (size_t m = 0; m < 4; ++m) EXPECT_TRUE(torch::equal(weights[m], before[m]));
  EXPECT_THROW(shut({weights[0]}, lists), Error);
}

TEST(IndexLists, UniteAndCompare) {
  const IndexLists a{{9}, {{1, 3, 5}}}, b{{9}, {{3, 4}}};
  EXPECT_EQ(unite(a, b).indices[0], std::vector<int64_t>({1, 3, 4, 5}));
  EXPECT_EQ(jaccard(a, b), 0.25);
  EXPECT_THROW(check(IndexLists{{9}, {{3, 3}}}), Error);
  EXPECT_THROW(check(IndexLists{{3}, {{3}}}), Error);
}

TEST(GateGradients, AreTheDerivativeByTheGates) {
  auto model = tiny();
  model->to(torch::kDouble);
  const diffusion::Schedule schedule({.steps = 10});
  auto draw = draw_noise(some_subject(), schedule, 6);
  draw.pictures = draw.pictures.to(torch::kDouble), draw.noise = draw.noise.to(torch::kDouble);
  const auto before = snapshot(*model);
  std::vector<Tensor> gates;
  for (const auto& w : key_value_weights(model)) gates.push_back(torch::rand_like(w).detach());
  const auto found = gate_gradients(model, schedule, draw, gates, 0.7);
  const auto after = snapshot(*model);
  for (size_t i = 0; i < after.size(); ++i) EXPECT_TRUE(torch::equal(before[i], after[i]));
  const auto weights = key_value_weights(model);
  for (size_t m = 0; m < weights.size(); ++m) {
    const auto loss_at = [&](double step) {
      for (size_t k = 0; k < weights.size(); ++k) weights[k].detach().mul_(gates[k]);
      weights[m].detach()[1][2] *=
          (gates[m][1][2].item<double>() + step) / gates[m][1][2].item<double>();
      const double loss = concept_loss(model, schedule, std::vector<NoiseDraw>{draw}, 0.7);
      restore(*model, before);
      return loss;
    };
    EXPECT_NEAR((loss_at(1e-5) - loss_at(-1e-5)) / 2e-5, found[m][1][2].item<double>(), 1e-7);
  }
}

TEST(ConceptNeurons, StayWithinTheShareAndLeaveTheModel) {
  auto model = tiny();
  const diffusion::Schedule schedule({.steps = 10});
  const auto before = snapshot(*model);
  const auto subject = some_subject();
  for (const auto score : {NeuronScore::gate, NeuronScore::one_shot, NeuronScore::magnitude,
                           NeuronScore::gradient, NeuronScore::random}) {
    const auto found = find_concept_neurons(model, schedule, subject,
                                            {.score = score, .share = 0.2, .draws = 6, .batch = 4});
    EXPECT_LE(found.shut.count(), 0.2 * static_cast<double>(found.shut.entries()));
    EXPECT_NO_THROW(check(found.shut));
  }
  const auto after = snapshot(*model);
  for (size_t i = 0; i < after.size(); ++i) EXPECT_TRUE(torch::equal(before[i], after[i]));
  EXPECT_THROW(find_concept_neurons(model, schedule, subject, {.share = 0}), Error);
}

TEST(ConceptNeurons, RowGatesShutWholeRows) {
  auto model = tiny();
  const diffusion::Schedule schedule({.steps = 10});
  const auto found = find_concept_neurons(model, schedule, some_subject(),
                                          {.score = NeuronScore::one_shot,
                                           .share = 0.5,
                                           .draws = 6,
                                           .batch = 4,
                                           .rows = true,
                                           .back_off = false});
  int64_t whole = 0;
  for (const auto& list : found.shut.indices)
    for (size_t i = 0; i + 7 < list.size(); ++i)
      whole += list[i] % 8 == 0 && list[i + 7] == list[i] + 7;
  EXPECT_GE(8 * whole, found.shut.count() - 8);
}

TEST(Tune, EachPartChangesOnlyItself) {
  auto model = tiny();
  const diffusion::Schedule schedule({.steps = 10});
  const auto before = snapshot(*model);
  const auto names = key_value_names(model);
  const auto subject = some_subject();
  IndexLists mask;
  for (const auto& w : key_value_weights(model))
    mask.sizes.push_back(w.numel()), mask.indices.push_back({3, 9});
  for (const auto part : {TunedPart::everything, TunedPart::keys_values, TunedPart::token,
                          TunedPart::low_rank, TunedPart::masked}) {
    const auto bytes =
        tune(model, schedule, {subject},
             {.part = part, .steps = 3, .batch = 4, .rate = 0.05, .words = {5}, .mask = mask});
    EXPECT_GT(bytes, 0);
    const auto after = snapshot(*model);
    size_t i = 0;
    for (const auto& p : model->named_parameters()) {
      const bool key_value = std::find(names.begin(), names.end(), p.key()) != names.end();
      const auto changed = (after[i] != before[i]).sum().item<int64_t>();
      const int64_t allowed = part == TunedPart::token    ? (p.key() == "embedding" ? 8 : 0)
                              : part == TunedPart::masked ? (key_value ? 2 : 0)
                              : part == TunedPart::everything || key_value ? after[i].numel()
                                                                           : 0;
      EXPECT_LE(changed, allowed) << p.key();
      if (part == TunedPart::low_rank && key_value) {
        EXPECT_GT(changed, 2);
      }
      ++i;
    }
    restore(*model, before);
  }
  EXPECT_THROW(tune(model, schedule, {subject}, {.part = TunedPart::token, .words = {99}}), Error);
  EXPECT_THROW(tune(model, schedule, {subject}, {.part = TunedPart::masked}), Error);
}

TEST(SubjectWorld, CaptionsNameWhatIsPainted) {
  SubjectWorld world{20, data::generated_items(40, 10, 1), data::generated_items(40, 10, 2)};
  Random random(1);
  const auto pictures = world.pictures_of(1, 3, random);
  EXPECT_EQ(data::text_of({pictures.words.data_ptr<int64_t>() + 12, 12}), "a <v2> bag right");
  EXPECT_EQ(pictures.pictures.min().item<float>(), -1);
  EXPECT_TRUE(torch::equal(pictures.words, world.captions(1, true, 4)));
  const auto joint = world.joint_captions(0, 1, 2);
  EXPECT_EQ(data::text_of({joint.data_ptr<int64_t>() + 12, 12}),
            "a <v2> bag left and a <v1> sneaker right");
  EXPECT_THROW(data::caption_of("a dragon"), Error);
}

}  // namespace
}  // namespace cajal::surgery
