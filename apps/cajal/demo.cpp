#include <iostream>

#include "../verb.h"
#include "atlas_report.h"
#include "cajal/atlas/measure.h"
#include "cajal/atlas/store.h"
#include "cajal/atlas/text.h"
#include "cajal/core/files.h"
#include "cajal/core/machine.h"
#include "cajal/core/timing.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/generate.h"
#include "cajal/surgery/errors.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/write.h"
#include "split_report.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrompt = "The old man looked at the sea and said that";
constexpr int kRounds = 5, kTokens = 40;

/// One form of the model: what it is, what it costs and what it can still do.
struct Form {
  std::string name, what;
  lm::Transformer model;
  lm::Summary sizes;
  double bits_per_byte = 0, tokens_per_second = 0, speed = 1;  // speed: over the dense form
  std::string sample;
};

struct Demo {
  fs::path folder, output;
  atlas::Reading calibration, held_out;
  int64_t held_out_bytes = 0;
  atlas::Census census;
  std::vector<Form> forms;  // the first is the dense model
};

void step(int number, std::string_view what) {
  fmt::print(stderr, "\n== {} of 5: {}\n\n", number, what);
}

// The first part of the text teaches (which neurons are heavy, which errors hurt), the rest judges.
void read(Demo& demo, const fs::path& text, const lm::Transformer& model) {
  auto all = atlas::read_text(demo.folder, model->config.vocabulary, text);
  const auto cut = std::ssize(all.ids) * 2 / 5;
  demo.held_out_bytes = std::ssize(atlas::words(all, cut, std::ssize(all.ids)));
  demo.calibration = all, demo.held_out = all;
  demo.calibration.ids.resize(static_cast<size_t>(cut));
  demo.held_out.ids.erase(demo.held_out.ids.begin(), demo.held_out.ids.begin() + cut);
}

void add_form(Demo& demo, const std::string& name, const std::string& what,
              const surgery::Plan& plan) {
  auto model = lm::load(demo.folder);
  surgery::split(model, plan, demo.census);
  surgery::requantise(model, {.attention = Format::q8_0, .embedding = Format::q8_0});
  demo.forms.push_back({name, what, model, lm::summarise(model), 0, 0, 1, ""});
}

void add_forms(Demo& demo, lm::Transformer& dense) {
  const auto& config = dense->config;
  demo.forms.push_back(
      {"dense", "the model as it is, 16 bits", dense, lm::summarise(dense), 0, 0, 1, ""});
  const auto plan = [&](const char* words) { return surgery::make_plan(words, demo.census); };
  const auto bytes = [&](const surgery::Plan& p) {
    return surgery::plan_bytes(p, config.width, config.gated);
  };
  const auto five = plan("all=q5_0");
  add_form(demo, "8 bits", "every neuron alike", plan("all=q8_0"));
  add_form(demo, "5 bits", "every neuron alike", five);
  add_form(demo, "4 bits", "every neuron alike", plan("all=q4_0"));
  add_form(demo, "split 8/4", "the heaviest quarter in 8 bits, the rest in 4",
           plan("heavy=q8_0,rest=q4_0"));
  add_form(demo, "split, random", "a random quarter in 8 bits: the control",
           plan("random=q8_0,rest=q4_0"));
  const auto choices = surgery::measure_errors(dense, demo.census, demo.calibration.ids);
  const auto planned = surgery::plan_for_budget(choices, bytes(five));
  add_form(demo, "planned", "bits where they count most, as many bytes as 5 bits", planned);
  add_form(demo, "planned, small", "the same with a quarter of the way from 4 bits to 5",
           surgery::plan_for_budget(choices, (3 * bytes(plan("all=q4_0")) + bytes(five)) / 4));
  fmt::print(stderr, "{}\nThe planner's choice for as many bytes as 5 bits everywhere:\n{}",
             forecast_table(demo.census, surgery::Score::hits), plan_table(planned));

  const auto place = demo.output / "planned";
  if (fs::exists(place / "plan.json")) fs::remove_all(place);  // of an earlier demo
  auto& form = demo.forms[demo.forms.size() - 2];
  surgery::write(form.model, demo.folder, place);
  write_json(place / "plan.json", planned.json(), -1);
}

void compare(Demo& demo) {
  const auto context = std::min<int64_t>(512, demo.forms[0].model->config.context);
  Progress progress("reading the held-out text", std::ssize(demo.forms), "forms");
  for (auto& form : demo.forms) {
    form.bits_per_byte =
        lm::evaluate(form.model, demo.held_out.ids, demo.held_out_bytes, context, 4)
            .bits_per_byte();
    progress.add(1);
  }
}

void time_and_generate(Demo& demo) {
  const auto prompt = demo.calibration.tokenizer
                          ? demo.calibration.tokenizer->encode(kPrompt, text::Specials::without)
                          : std::vector<int32_t>(kPrompt, kPrompt + std::strlen(kPrompt));
  std::vector<std::function<void()>> candidates;
  std::vector<size_t> made(demo.forms.size());
  for (size_t f = 0; f < demo.forms.size(); ++f)
    candidates.push_back([&, f] {
      made[f] = lm::generate(demo.forms[f].model, prompt, kTokens, {}).size() - prompt.size();
    });
  const auto times = time_interleaved(candidates, kRounds);
  for (size_t f = 0; f < demo.forms.size(); ++f) {
    auto& form = demo.forms[f];
    form.tokens_per_second = static_cast<double>(made[f]) / times.median_seconds(f);
    form.speed = times.ratio(0, f) * static_cast<double>(made[f]) / static_cast<double>(made[0]);
    atlas::Reading reading = demo.held_out;
    reading.ids =
        lm::generate(form.model, prompt, 60, {.temperature = 0.7, .top_k = 40, .seed = 7});
    form.sample = atlas::words(reading, 0, std::ssize(reading.ids));
  }
}

std::vector<std::vector<std::string>> rows(const Demo& demo) {
  const auto& dense = demo.forms.front();
  std::vector<std::vector<std::string>> out;
  for (const auto& form : demo.forms)
    out.push_back({form.name, megabytes(form.sizes.stored_bytes),
                   megabytes(form.sizes.bytes_per_token), fmt::format("{:.4f}", form.bits_per_byte),
                   fmt::format("{:+.2f} %", 100 * (form.bits_per_byte / dense.bits_per_byte - 1)),
                   fmt::format("{:.0f}", form.tokens_per_second),
                   fmt::format("{:.2f}", form.speed)});
  return out;
}

const std::vector<std::string> kColumns = {"form",     "stored",   "read a token", "bits a byte",
                                           "worse by", "tokens/s", "times dense"};

std::string table_text(const Demo& demo) {
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    out += fmt::format("{:<16}{:>12}{:>14}{:>13}{:>10}{:>10}{:>13}\n", cells[0], cells[1], cells[2],
                       cells[3], cells[4], cells[5], cells[6]);
  };
  line(kColumns);
  for (const auto& row : rows(demo)) line(row);
  out +=
      "\nform         how the FFN neurons are stored; all but the dense form keep everything else "
      "in 8 bits\n"
      "bits a byte  how well the model foretells text it has not seen: lower is better\n"
      "tokens/s     one token after the other, all forms in turn, median of ";
  return out + fmt::format("{} rounds\n", kRounds);
}

plot::Chart trade_chart(const Demo& demo) {
  plot::Lines chart;
  chart.title = "Quality against size";
  chart.x.label = "stored, MB";
  chart.y.label = "bits a byte (lower is better)";
  for (const auto& form : demo.forms)
    chart.series.push_back({.name = form.name,
                            .x = {static_cast<double>(form.sizes.stored_bytes) / 1e6},
                            .y = {form.bits_per_byte},
                            .spread = {},
                            .points_only = true});
  return chart;
}

plot::Chart speed_chart(const Demo& demo) {
  plot::BarChart chart;
  chart.title = "Speed of writing text";
  chart.y.label = "tokens/s", chart.y.low = 0;
  chart.bars = {{"tokens/s", {}}};
  for (const auto& form : demo.forms) {
    chart.groups.push_back(form.name);
    chart.bars[0].values.push_back(form.tokens_per_second);
  }
  return chart;
}

const Form& form_named(const Demo& demo, std::string_view name) {
  for (const auto& form : demo.forms)
    if (form.name == name) return form;
  fail("no form '{}'", name);
}

// What the figures say, in sentences that follow from them.
std::vector<std::string> findings(const Demo& demo) {
  const auto& dense = demo.forms.front();
  const auto& planned = form_named(demo, "planned");
  const auto& five = form_named(demo, "5 bits");
  const auto& split = form_named(demo, "split 8/4");
  const auto& random = form_named(demo, "split, random");
  const auto loss = [&](const Form& form) { return form.bits_per_byte - dense.bits_per_byte; };
  std::vector<std::string> out;
  out.push_back(fmt::format(
      "The planned form takes {:.0f} % less room than the dense one, foretells the text {:.2f} % "
      "worse, and writes {:.2f} times as fast.",
      100 * (1 - static_cast<double>(planned.sizes.stored_bytes) /
                     static_cast<double>(dense.sizes.stored_bytes)),
      100 * (planned.bits_per_byte / dense.bits_per_byte - 1), planned.speed));
  const bool better = loss(split) < loss(five);
  out.push_back(fmt::format(
      "With the same bytes, the split into 8 and 4 bits is {} than 5 bits for all ({:+.4f} against "
      "{:+.4f} bits a byte); the plan, which looks at every layer, gives {:+.4f}.",
      better ? "better" : "no better", loss(split), loss(five), loss(planned)));
  out.push_back(
      fmt::format("The heavy hitters in 8 bits give {:+.4f}, a random quarter of the neurons "
                  "{:+.4f}; on a text "
                  "this short, differences below about 0.002 mean nothing.",
                  loss(split), loss(random)));
  const auto& middle = demo.census.layers[demo.census.layers.size() / 2];
  out.push_back(fmt::format(
      "In the middle layer, {:.0f} % of the activations are exactly 0, a token's own strongest "
      "tenth "
      "of the neurons does {:.0f} % of the work, and the best fixed tenth {:.0f} %.",
      100 * middle.zero_share(), 100 * middle.token_curve(3), 100 * middle.fixed_curve(0.1)));
  return out;
}

std::string page(const Demo& demo) {
  html::Page page("cajal: what a model's neurons do, and what that saves");
  page.paragraph(fmt::format(
      "A language model ({}, {} layers of {} neurons) read {} tokens, and every neuron was "
      "watched. "
      "From what was seen, its neurons were stored in fewer bits, in several ways, and each way "
      "was "
      "judged on {} other tokens.",
      demo.census.model, demo.census.layers.size(), grouped(demo.census.layers[0].neurons),
      grouped(demo.census.tokens()), grouped(std::ssize(demo.held_out.ids))));
  const auto& dense = demo.forms.front();
  const auto& planned = form_named(demo, "planned");
  page.figures(
      {{"smaller by",
        fmt::format("{:.0f} %", 100 * (1 - static_cast<double>(planned.sizes.stored_bytes) /
                                               static_cast<double>(dense.sizes.stored_bytes)))},
       {"worse by",
        fmt::format("{:.2f} %", 100 * (planned.bits_per_byte / dense.bits_per_byte - 1))},
       {"faster by a factor of", fmt::format("{:.2f}", planned.speed)}});
  page.heading("What came out");
  page.table(kColumns, rows(demo));
  page.note(fmt::format(
      "Stored: bytes of the whole model. Read a token: bytes that must come from memory to write "
      "one "
      "token; they set the speed. Bits a byte: how many bits the model needs to foretell one byte "
      "of "
      "text it has not seen; lower is better. Tokens/s: all forms in turn, median of {} rounds, on "
      "{}. All forms but the dense one keep attention and embedding in 8 bits.",
      kRounds, this_machine().processor));
  for (const auto& text : findings(demo)) page.paragraph(text);
  page.picture(plot::svg(trade_chart(demo)),
               "Each point is one form. Down and to the left is better: small and good.");
  page.picture(plot::svg(speed_chart(demo)), "Higher is faster.");

  page.heading("What the neurons do");
  page.paragraph(
      "A neuron reads the stream of one token, answers with one number (its activation), and "
      "writes "
      "that number times its value row back. Its output energy is the squared length of what it "
      "writes.");
  for (const auto& [chart, meaning] : atlas_pictures(demo.census))
    page.picture(plot::svg(chart), meaning);
  page.heading("The neurons that are strong most often", 3);
  page.paragraph("They are the heavy hitters that a split keeps in more bits.");
  add_heavy_neurons(page, demo.census);

  page.heading("What each form writes");
  page.paragraph(
      "The same prompt and the same dice. Small models write like this; look at whether the "
      "forms differ in kind, not in words.");
  for (const auto& form : demo.forms) {
    page.heading(form.name + ": " + form.what, 4);
    page.paragraph(form.sample);
  }
  page.heading("What to try next");
  page.code(fmt::format(
      "cajal generate {0}/planned --prompt \"It was a dark night\"\n"
      "cajal atlas show {0}/atlas.db --layer 0 --neuron 0\n"
      "cajal split MODEL --budget 30% --text YOUR.txt --output DIR    your own model\n"
      "cajal study run ffsplit                                        the method, tested",
      demo.output.string()));
  return page.html();
}

void run(const std::string& name, const std::string& text, const std::string& output) {
  const Stopwatch watch;
  set_torch_threads(0);
  torch::NoGradGuard no_grad;
  Demo demo;
  demo.folder = lm::find_model(name);
  demo.output = output;
  fs::create_directories(demo.output);
  auto dense = lm::load(demo.folder);
  read(demo, text.empty() ? demo.folder.parent_path() / "held-out.txt" : fs::path(text), dense);

  step(1, "atlas - watch every neuron while the model reads");
  demo.census = atlas::measure(dense, demo.calibration.ids);
  demo.census.model = demo.folder.filename().string(), demo.census.text = demo.calibration.name;
  atlas::add_contexts(demo.census, demo.calibration);
  atlas::save(demo.census, demo.output / "atlas.db");
  std::cerr << layer_table(demo.census);

  step(2, "split - give each neuron the bits it is worth");
  add_forms(demo, dense);

  step(3, "compare - how well does each form foretell text it has not seen?");
  compare(demo);
  step(4, "generate - how fast, and how does it read?");
  time_and_generate(demo);
  std::cout << table_text(demo) << '\n';
  for (const auto& finding : findings(demo)) std::cout << "* " << finding << '\n';
  for (const auto& form : demo.forms)
    std::cout << fmt::format("\n[{}]\n{}\n", form.name, form.sample);

  step(5, "report");
  const auto report = demo.output / "report.html";
  write_file(report, page(demo));
  fmt::print(
      stderr,
      "{} in {:.0f} s\n  {}           pictures, and what they mean\n  {}             every neuron "
      "(cajal atlas show)\n  {}              the planned model (cajal generate)\n",
      "done", watch.seconds(), report.string(), (demo.output / "atlas.db").string(),
      (demo.output / "planned").string());
}

void setup(CommandLine& app, int&) {
  struct Options {
    std::string model = "opt-classics", text, output = "cajal-demo";
  };
  auto o = std::make_shared<Options>();
  app.add_option("--model", o->model, "checkpoint folder or embedded model")->capture_default_str();
  app.add_option("--text", o->text, "text to read; by default held-out.txt beside the model");
  app.add_option("--output", o->output, "folder for the report")->capture_default_str();
  app.callback([o] { run(o->model, o->text, o->output); });
}

const auto registered = verbs().add(
    "demo",
    {"atlas, split, compare, generate, report on the embedded model in under 2 minutes", setup});

}  // namespace
}  // namespace cajal
