#include "serve_routes.h"

#include <charconv>
#include <cmath>
#include <set>

#include "cajal/core/error.h"
#include "cajal/core/machine.h"
#include "cajal/text/unicode.h"

namespace cajal::serve {
namespace {

constexpr size_t connections = 4;     // to the file, at once
constexpr int most_reading = 4;       // texts that wait for the model
constexpr size_t most_followed = 10;  // texts in one request
constexpr size_t most_word_bytes = 200, most_kinds = 4, most_some = 200;

template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
  throw Refusal{400, fmt::format(format, std::forward<Args>(args)...)};
}

// The words behind the question mark. Each is asked for once by name; what is left is refused.
class Parameters {
 public:
  explicit Parameters(const httplib::Request& request) : given_(request.params) {}

  std::optional<std::string> text(const std::string& name) {
    asked_.insert(name);
    if (given_.count(name) > 1) refuse("'{}' is given {} times", name, given_.count(name));
    const auto found = given_.find(name);
    return found == given_.end() ? std::nullopt : std::optional(found->second);
  }
  std::vector<std::string> texts(const std::string& name) {
    asked_.insert(name);
    std::vector<std::string> out;
    const auto [begin, end] = given_.equal_range(name);
    for (auto it = begin; it != end; ++it) out.push_back(it->second);
    return out;
  }
  template <class T>
  std::optional<T> number(const std::string& name) {
    const auto found = text(name);
    return found ? std::optional(parse<T>(*found, name)) : std::nullopt;
  }
  template <class T>
  T need(const std::string& name) {
    const auto found = number<T>(name);
    if (!found) refuse("'{}' is missing", name);
    return *found;
  }
  void end() const {
    for (const auto& [name, value] : given_)
      if (!asked_.contains(name)) refuse("'{}' is no parameter here", shown(name));
  }

  template <class T>
  static T parse(std::string_view text, const std::string& name) {
    T value{};
    const auto [end, code] = std::from_chars(text.begin(), text.end(), value);
    const bool whole = code == std::errc() && end == text.end();
    if (!whole || !std::isfinite(static_cast<double>(value)))
      refuse("{}={}: expected {}", name, shown(text),
             std::is_integral_v<T> ? "a whole number" : "a number");
    return value;
  }
  static std::string shown(std::string_view text) {
    std::string buffer;
    return std::string(text::repair_utf8(text.substr(0, 60), buffer));
  }

 private:
  const httplib::Params& given_;
  std::set<std::string> asked_;
};

template <class E>
E named(const std::string& text, const std::string& name) {
  return from_name<E>(Parameters::shown(text), name);
}

atlas::Bounds bounds(Parameters& parameters, const std::string& name) {
  return {parameters.number<double>(name + "_min"), parameters.number<double>(name + "_max"),
          parameters.number<double>(name + "_above"), parameters.number<double>(name + "_below")};
}

std::string word(Parameters& parameters, const char* name) {
  const auto text = parameters.text(name).value_or("");
  if (text.size() > most_word_bytes)
    refuse("{}: {} bytes, expected {} at most", name, text.size(), most_word_bytes);
  return text;
}

atlas::NeuronQuery query(const httplib::Request& request) {
  Parameters parameters(request);
  atlas::NeuronQuery out;
  out.layer = parameters.number<int64_t>("layer");
  out.kinds = parameters.texts("kind");
  if (out.kinds.size() > most_kinds)
    refuse("{} kinds: expected {} at most", out.kinds.size(), most_kinds);
  out.rate = bounds(parameters, "rate"), out.hits = bounds(parameters, "hits");
  out.energy = bounds(parameters, "energy");
  out.word = word(parameters, "word");
  if (const auto role = parameters.text("role")) out.role = named<atlas::WordRole>(*role, "role");
  if (const auto order = parameters.text("order"))
    out.order = named<atlas::NeuronOrder>(*order, "order");
  out.descending = parameters.number<int>("descending").value_or(0) != 0;
  out.page = parameters.number<int64_t>("page").value_or(0);
  out.page_size = parameters.number<int64_t>("page_size").value_or(out.page_size);
  parameters.end();
  return out;
}

struct LiveText {
  std::string text;
};
CAJAL_OPTIONS(LiveText, text)

struct Followed {
  std::vector<std::string> texts;
  int64_t layer = 0, neuron = 0;
};
CAJAL_OPTIONS(Followed, texts, layer, neuron)

template <class T>
T body(const httplib::Request& request) {
  constexpr JsonLimits limits{.depth = 4, .bytes = 64 << 10};
  return options::parse<T>(parse_json(request.body, "request", limits), "request");
}

}  // namespace

Site::Site(std::filesystem::path atlas, std::filesystem::path index,
           std::unique_ptr<atlas::Live> live, std::string without)
    : atlas_(std::move(atlas)),
      index_(std::move(index)),
      live_(std::move(live)),
      without_(std::move(without)) {
  for (size_t k = 0; k < connections; ++k)
    browsers_.push_back(std::make_unique<atlas::Browser>(atlas_, index_));
}

template <class Ask>
Json Site::browse(Ask&& ask) {
  std::unique_lock lock(mutex_);
  returned_.wait(lock, [this] { return !browsers_.empty(); });
  auto browser = std::move(browsers_.back());
  browsers_.pop_back();
  lock.unlock();
  struct Return {
    Site& site;
    std::unique_ptr<atlas::Browser>& browser;
    ~Return() {
      const std::lock_guard again(site.mutex_);
      site.browsers_.push_back(std::move(browser));
      site.returned_.notify_one();
    }
  } back{*this, browser};
  try {
    return ask(*browser);
  } catch (const Error& error) {
    const std::string text = error.what();
    throw Refusal{text.starts_with(atlas_.string()) ? 500 : 400, text};
  }
}

template <class Ask>
Json Site::read(Ask&& ask) {
  if (!live_) throw Refusal{404, without_};
  struct Count {
    std::atomic<int>& reading;
    ~Count() { --reading; }
  } count{reading_};
  if (++reading_ > most_reading) throw Refusal{503, "the model is busy; try again"};
  return ask(*live_);
}

Json Site::overview(const Request& request) {
  Parameters(request).end();
  auto out = browse([](atlas::Browser& browser) { return browser.overview(); });
  out["file"] = atlas_.filename().string();
  out["version"] = version();
  out["live"] = live_ != nullptr;
  if (!live_) out["live_without"] = without_;
  return out;
}

Json Site::neurons(const Request& request) {
  const auto asked = query(request);
  return browse([&](atlas::Browser& browser) { return browser.list(asked); });
}

// ids=3.17,4.20: layer and neuron.
Json Site::some(const Request& request) {
  Parameters parameters(request);
  const auto ids = parameters.text("ids").value_or("");
  parameters.end();
  std::vector<std::pair<int64_t, int64_t>> asked;
  for (size_t at = 0; at < ids.size();) {
    const auto end = std::min(ids.find(',', at), ids.size());
    const auto one = std::string_view(ids).substr(at, end - at);
    const auto dot = one.find('.');
    if (dot == one.npos) refuse("ids: '{}' is not LAYER.NEURON", Parameters::shown(one));
    asked.emplace_back(Parameters::parse<int64_t>(one.substr(0, dot), "ids"),
                       Parameters::parse<int64_t>(one.substr(dot + 1), "ids"));
    if (asked.size() > most_some) refuse("ids: expected {} at most", most_some);
    at = end + 1;
  }
  return browse([&](atlas::Browser& browser) { return browser.brief(asked); });
}

Json Site::neuron(const Request& request) {
  Parameters parameters(request);
  const auto layer = parameters.need<int64_t>("layer");
  const auto neuron = parameters.need<int64_t>("neuron");
  parameters.end();
  try {
    return browse([&](atlas::Browser& browser) { return browser.neuron(layer, neuron); });
  } catch (Refusal& refusal) {
    if (refusal.status == 400) refusal.status = 404;  // there is no such neuron
    throw;
  }
}

Json Site::words(const Request& request) {
  Parameters parameters(request);
  const auto prefix = word(parameters, "prefix");
  parameters.end();
  return browse([&](atlas::Browser& browser) { return browser.words(prefix); });
}

Json Site::live(const Request& request) {
  const auto asked = body<LiveText>(request);
  return read([&](atlas::Live& live) { return live.strongest(asked.text); });
}

Json Site::follow(const Request& request) {
  const auto asked = body<Followed>(request);
  if (asked.texts.size() > most_followed)
    refuse("{} texts: expected {} at most", asked.texts.size(), most_followed);
  return read([&](atlas::Live& live) {
    Json out = {{"texts", Json::array()}};
    for (const auto& text : asked.texts)
      out["texts"].push_back(live.follow(text, asked.layer, asked.neuron));
    return out;
  });
}

void Site::add_to(HttpServer& server) {
  const auto bound = [this](Json (Site::*member)(const Request&)) {
    return [this, member](const Request& request) { return (this->*member)(request); };
  };
  server.get("/api/overview", bound(&Site::overview));
  server.get("/api/neurons", bound(&Site::neurons));
  server.get("/api/some", bound(&Site::some));
  server.get("/api/neuron", bound(&Site::neuron));
  server.get("/api/words", bound(&Site::words));
  server.post("/api/live", bound(&Site::live));
  server.post("/api/follow", bound(&Site::follow));
}

}  // namespace cajal::serve
