#include "cajal/study/subject.h"

#include "cajal/atlas/measure.h"
#include "cajal/atlas/text.h"
#include "cajal/data/catalogue.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/generate.h"

namespace cajal::study {
namespace {

Subject random_subject(Lab& lab, const std::string& name) {
  const bool gated = name.starts_with("llama");
  const char* neurons = gated ? "intermediate_size" : "ffn_dim";
  const Json json = {{"model_type", gated ? "llama" : "opt"},
                     {"hidden_size", 64},
                     {"num_hidden_layers", 2},
                     {"num_attention_heads", 2},
                     {neurons, 256},
                     {"vocab_size", 256},
                     {"max_position_embeddings", 64},
                     {"tie_word_embeddings", true}};
  Subject out;
  out.name = "random, like " + name;
  out.model = lm::initialise(lm::config_from_json(json, out.name), 1, 0.2);
  auto random = lab.random();
  for (auto* ids : {&out.calibration, &out.valid})
    for (int t = 0; t < 1024; ++t) ids->push_back(static_cast<int32_t>(random.below(256)));
  out.valid_bytes = std::ssize(out.valid);
  return out;
}

}  // namespace

double Subject::bits_per_byte(lm::Transformer& form, lm::Hooks* hooks) const {
  const auto context = std::min<int64_t>(512, config().context);
  return lm::evaluate(form, valid, valid_bytes, context, 4, hooks).bits_per_byte();
}

double Subject::bits_per_byte_on(const std::string& corpus, int64_t tokens,
                                 lm::Transformer& form) const {
  if (!model->file) return bits_per_byte(form);
  const auto text = atlas::read_text(lm::find_model(name), config().vocabulary, corpus, tokens);
  const auto bytes = std::ssize(atlas::words(text, 1, std::ssize(text.ids)));
  return lm::evaluate(form, text.ids, bytes, std::min<int64_t>(512, config().context), 4)
      .bits_per_byte();
}

lm::Transformer Subject::copy() const {
  lm::Transformer out(model->config);
  out->embedding = model->embedding, out->blocks = model->blocks, out->output = model->output;
  out->layout = model->layout, out->file = model->file;
  return out;
}

std::optional<std::filesystem::path> find_trained(Lab& lab, const std::string& name) {
  try {
    auto folder = lm::find_model(name);
    data::find_dataset("classics");
    return folder;
  } catch (const Error& absent) {
    lab.not_shown(name, absent.what());
    return {};
  }
}

std::optional<Subject> find_subject(Lab& lab, const std::string& name) {
  Subject out;
  if (lab.smoke()) {
    out = random_subject(lab, name);
  } else {
    const auto trained = find_trained(lab, name);
    if (!trained) return {};
    const auto& folder = *trained;
    const auto tokens = lab.by_scale<int64_t>(0, 32768, 262144);
    out.name = name;
    out.model = lm::load(folder);
    const auto vocabulary = out.config().vocabulary;
    out.calibration = atlas::read_text(folder, vocabulary, "classics/train", tokens).ids;
    const auto valid = atlas::read_text(folder, vocabulary, "classics/valid", tokens / 2);
    out.valid_bytes = std::ssize(atlas::words(valid, 1, std::ssize(valid.ids)));
    out.valid = valid.ids;
  }
  out.census = atlas::measure(out.model, out.calibration);
  return out;
}

}  // namespace cajal::study
