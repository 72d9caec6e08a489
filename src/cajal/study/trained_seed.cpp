#include "cajal/study/trained_seed.h"

#include <cstdlib>

#include "cajal/data/catalogue.h"
#include "cajal/train/language_model.h"

namespace cajal::study {

namespace fs = std::filesystem;

std::optional<fs::path> trained_seed(Lab& lab, uint64_t seed, const SeedOptions& options) {
  try {
    data::find_dataset("classics");
  } catch (const Error& absent) {
    lab.not_shown("small models trained here", absent.what());
    return {};
  }
  train::LanguageModelOptions recipe;
  recipe.model = {{"model_type", "opt"},
                  {"hidden_size", 128},
                  {"word_embed_proj_dim", 128},
                  {"num_hidden_layers", options.layers},
                  {"num_attention_heads", 4},
                  {"ffn_dim", 512},
                  {"max_position_embeddings", 128},
                  {"vocab_size", 2048},
                  {"tie_word_embeddings", true}};
  if (options.post_norm) recipe.model["do_layer_norm_before"] = false;
  recipe.data.train = "classics/valid", recipe.data.valid = "classics/test";
  recipe.data.tokenizer = {{"train", {{"vocabulary", 2048}}}};
  recipe.batch = options.batch;
  recipe.seed = seed + 1;
  recipe.dtype = "f32";
  recipe.trainer.steps = options.steps;
  recipe.trainer.optimizer = train::Rule::muon;
  recipe.trainer.learning_rate = 4e-3;
  recipe.trainer.warmup_steps = options.steps / 10;
  recipe.trainer.weights = train::Weights::current;
  recipe.trainer.keep = train::Keep::last;
  const auto text = options::write(recipe).dump();
  recipe.trainer.save_every = 50;  // outside the name: the model is the same
  const auto cache = data::cache_folder(data::dataset("classics")).parent_path().parent_path();
  const auto folder =
      cache / "models" / fmt::format("seed-{}-{:016x}", seed, train::content_key(text));
  if (fs::exists(folder / "model.safetensors")) return folder;
  fs::create_directories(folder.parent_path());
  // A run that was cut short goes on from its last checkpoint.
  const auto card = train::train_language_model(
      recipe, {.output = folder, .resume = true, .device = lab.device().str()});
  require(!card.at("stopped").get<bool>(), "{}: its training was stopped; run again to go on",
          folder.string());
  return folder;
}

}  // namespace cajal::study
