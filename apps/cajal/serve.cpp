#include <unistd.h>

#include <csignal>
#include <iostream>
#include <thread>

#include "../verb.h"

#ifdef CAJAL_HTTP
#include "atlas_build.h"
#include "cajal/data/catalogue.h"
#include "cajal/models/lm/checkpoint.h"
#include "serve_pages.h"
#include "serve_routes.h"
#endif

namespace cajal {
namespace {

struct Options {
  std::string subject = "opt-classics", model, host = "127.0.0.1";
  int port = 8080;
  int64_t tokens = 8192;
  bool json = false;
};

#ifdef CAJAL_HTTP

namespace fs = std::filesystem;

// SIGINT and SIGTERM end the server from a thread of its own; a handler may only write to a pipe.
class Signals {
 public:
  explicit Signals(serve::HttpServer& server) {
    require(::pipe(ends_) == 0, "no pipe for signals");
    for (const int signal : {SIGINT, SIGTERM}) {
      struct sigaction action {};
      action.sa_handler = [](int) {
        const char byte = 0;
        [[maybe_unused]] const auto ignored = ::write(ends_[1], &byte, 1);
      };
      ::sigaction(signal, &action, nullptr);
    }
    watcher_ = std::thread([&server] {
      char byte = 0;
      while (::read(ends_[0], &byte, 1) < 0 && errno == EINTR) {
      }
      server.stop();
    });
  }
  ~Signals() {
    const char byte = 0;
    [[maybe_unused]] const auto ignored = ::write(ends_[1], &byte, 1);
    watcher_.join();
  }

 private:
  static inline int ends_[2];
  std::thread watcher_;
};

// The atlas of a model given by name, built on first use.
fs::path atlas_of(const fs::path& model, int64_t tokens) {
  const auto hash = atlas::fingerprint(lm::load(model));
  const auto folder = data::cache_root() / "atlas";
  const auto place = folder / fmt::format("{:016x}-{}.db", hash, tokens);
  if (fs::exists(place)) return place;
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, "{}: cannot be made: {}", folder.string(), error.message());
  const auto text = lm::find_model("opt-classics").parent_path() / "held-out.txt";
  fmt::print(stderr, "building an atlas of {} on {} first\n", model.string(), text.string());
  AtlasBuild build;
  build.model = model.string(), build.text = text.string(), build.output = place.string();
  build.tokens = tokens;
  build.ablation = 32;  // seconds, where the default takes a minute
  build_atlas(build);
  return place;
}

struct Subject {
  fs::path atlas;
  std::string model;  // where it is, or ""
};

Subject find_subject(const Options& from) {
  std::error_code error;
  const fs::path path = from.subject;
  if (fs::is_regular_file(path, error) && !lm::is_gguf(path)) return {path, from.model};
  require(!path.has_extension() || path.extension() != ".db", "{}: no such file", from.subject);
  const auto model = lm::find_model(from.subject);
  require(from.model.empty(), "{} is a model itself; --model goes with an atlas", from.subject);
  return {atlas_of(model, from.tokens), model.string()};
}

// The model for live texts: the one asked for, which must be that of the atlas, or the one that the
// atlas names, where it is here.
std::unique_ptr<atlas::Live> open_live(const Subject& subject, atlas::Browser& browser,
                                       std::string& without) {
  if (!subject.model.empty()) {
    auto live = std::make_unique<atlas::Live>(lm::find_model(subject.model));
    require(live->hash() == browser.model_hash(), "{}: atlas of another model than {}",
            subject.atlas.string(), subject.model);
    return live;
  }
  try {
    auto live = std::make_unique<atlas::Live>(lm::find_model(browser.model()));
    if (live->hash() == browser.model_hash()) return live;
    without = fmt::format("'{}' here is another model than that of the atlas; start with --model",
                          browser.model());
  } catch (const Error&) {  // it is a name for people, and need not be a place
    without = fmt::format("the model '{}' is not here; start with --model DIR", browser.model());
  }
  return nullptr;
}

void serve_atlas(const Options& from) {
  serve::HttpServer server(from.host, from.port);
  const auto pages = serve::find_pages();
  const auto subject = find_subject(from);
  const auto index = atlas::index_beside(subject.atlas, data::cache_root() / "atlas");
  std::string without;
  atlas::Browser browser(subject.atlas, index);
  auto live = open_live(subject, browser, without);
  serve::Site site(subject.atlas, index, std::move(live), without);
  site.add_to(server);
  serve::add_pages(server, pages);
  const Signals signals(server);
  if (from.json)
    std::cout << Json{{"url", server.url()}, {"atlas", subject.atlas.string()}}.dump() << std::endl;
  else
    fmt::print(stderr, "{} at {}   (Ctrl-C ends)\n", subject.atlas.string(), server.url());
  if (!without.empty()) fmt::print(stderr, "no live texts: {}\n", without);
  server.run();
}

#else

void serve_atlas(const Options&) { fail("this build has no server: cpp-httplib was not found"); }

#endif

void setup(CommandLine& app, int&) {
  auto from = std::make_shared<Options>();
  app.add_option("ATLAS|MODEL", from->subject, "an atlas, or a model of which a small one is built")
      ->capture_default_str();
  app.add_option("--model", from->model, "the model of the atlas, for texts typed into the page");
  app.add_option("--port", from->port, "0 = any free one")
      ->between(0, 65535)
      ->capture_default_str();
  app.add_option("--host", from->host, "address to listen at; others than loopback are open to all")
      ->capture_default_str();
  app.add_option("--tokens", from->tokens, "of the text, where an atlas is built")
      ->positive()
      ->capture_default_str();
  app.add_flag("--json", from->json, "one JSON object on stdout: where it is served");
  app.callback([from] { serve_atlas(*from); });
}

const auto registered = verbs().add("serve", {"the atlas in a browser", setup});

}  // namespace
}  // namespace cajal
