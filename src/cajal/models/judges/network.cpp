#include "cajal/models/judges/network.h"

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::judges {

std::vector<std::vector<int64_t>> reads_within(int64_t neurons, int64_t window) {
  std::vector<std::vector<int64_t>> out(static_cast<size_t>(neurons));
  for (int64_t i = 0; i < neurons; ++i)
    for (int64_t j = 0; j < neurons; ++j)
      if (j != i && (window == 0 || std::abs(i - j) < window))
        out[static_cast<size_t>(i)].push_back(j);
  return out;
}

Network wide_deep(int64_t width, int64_t depth, int64_t window, const Neuron& like) {
  require(width >= 0 && depth > 0 && window >= 0,
          "judges: width {}, depth {} and window {}, expected 0 or more, 1 or more, 0 or more",
          width, depth, window);
  Network network{.name = width > 0 ? fmt::format("{} x {}", width, depth)
                                    : fmt::format("all angles x {}", depth)};
  network.angles = width > 0 ? Angles::limited : Angles::unlimited;
  network.window = window, network.model = like.model;
  const auto neurons = static_cast<size_t>(std::max<int64_t>(1, width));
  for (int64_t l = 0; l < depth; ++l) {
    Layer layer{std::vector<Neuron>(neurons, like)};
    if (l > 0) layer.reads = reads_within(std::ssize(layer.neurons), window);
    network.layers.push_back(std::move(layer));
  }
  return network;
}

Network single_judge(std::vector<Order> orders, int64_t evidences, const Neuron& like) {
  Network network{.name = fmt::format("single judge, {}{}",
                                      orders.size() > 1 ? "both orders" : "one order",
                                      evidences > 1 ? fmt::format(", {} times", evidences) : "")};
  network.angles = Angles::none;
  network.orders = std::move(orders);
  auto neuron = like;
  neuron.evidences = evidences;
  network.layers = {Layer{{neuron}}};
  return network;
}

Network fixed_roles(const std::vector<Neuron>& roles, int64_t rounds) {
  require(!roles.empty() && rounds > 0, "judges: {} roles, {} rounds", roles.size(), rounds);
  Network network{.name = fmt::format("{} fixed roles, {} rounds", roles.size(), rounds)};
  network.angles = Angles::none;
  for (int64_t l = 0; l < rounds; ++l) {
    Layer layer{roles};
    if (l > 0) layer.reads = reads_within(std::ssize(roles), 0);
    network.layers.push_back(std::move(layer));
  }
  return network;
}

namespace {

// Runs one pair through a network.
class Run {
 public:
  Run(const Network& network, const Pair& pair, const Ask& ask)
      : network_(network), pair_(pair), ask_(ask) {}

  Trace operator()() {
    const auto layers = prepare();
    for (size_t l = 0; l < layers.size(); ++l) {
      std::vector<Review> reviews;
      for (int64_t i = 0; i < std::ssize(layers[l].neurons); ++i)
        for (const auto order : network_.orders)
          for (int64_t k = 0; k < layers[l].neurons[static_cast<size_t>(i)].evidences; ++k)
            reviews.push_back(review(layers, static_cast<int64_t>(l), i, order, k));
      widen_angles(layers[l]);
      trace_.reviews.insert(trace_.reviews.end(), reviews.begin(), reviews.end());
    }
    read_out(network_, trace_);
    return std::move(trace_);
  }

 private:
  // Layer 0, and the layers that follow from what it named.
  std::vector<Layer> prepare() {
    require(!network_.layers.empty() && !network_.orders.empty() && network_.tries > 0,
            "judges: a network without layers, orders or tries");
    auto layers = network_.layers;
    const auto width = std::ssize(layers[0].neurons);
    if (network_.angles != Angles::none) ask_angles(network_.angles == Angles::limited ? width : 0);
    if (network_.angles == Angles::unlimited) {
      for (auto& layer : layers) {
        require(layer.neurons.size() == 1, "judges: layers of one neuron are repeated, not of {}",
                layer.neurons.size());
        layer.neurons.resize(trace_.angles.size(), layer.neurons[0]);
        if (&layer != &layers[0])
          layer.reads = reads_within(std::ssize(layer.neurons), network_.window);
      }
    }
    for (size_t l = 0; l < layers.size(); ++l) {
      const auto& layer = layers[l];
      require(layer.neurons.size() == layers[0].neurons.size() && !layer.neurons.empty() &&
                  (layer.reads.empty() || layer.reads.size() == layer.neurons.size()),
              "judges: layer {} has {} neurons that read {} lists, expected {}", l + 1,
              layer.neurons.size(), layer.reads.size(), layers[0].neurons.size());
      for (const auto& list : layer.reads)
        for (const auto j : list)
          require(l > 0 && j >= 0 && j < std::ssize(layer.neurons),
                  "judges: layer {} reads neuron {} of the layer before", l + 1, j);
    }
    // Fewer angles than neurons: they go round, so that a width asked for is a width run.
    for (size_t i = 0; i < layers[0].neurons.size(); ++i) {
      const auto& fixed = layers[0].neurons[i].angle;
      std::vector<std::string> own;
      if (!fixed.empty())
        own = {fixed};
      else if (!trace_.angles.empty())
        own = {trace_.angles[i % trace_.angles.size()]};
      angles_.push_back(std::move(own));
    }
    return layers;
  }

  void ask_angles(int64_t count) {
    data::ChatRequest request{.model = network_.model,
                              .messages = {{"user", ask_for_angles(pair_, count)}}};
    for (int64_t t = 0; t < network_.tries && trace_.angles.empty(); ++t) {
      request.sample = t;
      trace_.angles_reply = call(request);
      trace_.angles = parse_angles(trace_.angles_reply, pair_.task);
    }
    if (trace_.angles.empty()) trace_.angles = {"Accuracy", "Relevance"};
    if (count > 0 && std::ssize(trace_.angles) > count)
      trace_.angles.resize(static_cast<size_t>(count));
  }

  Review review(const std::vector<Layer>& layers, int64_t l, int64_t i, Order order, int64_t k) {
    const auto& layer = layers[static_cast<size_t>(l)];
    const auto& neuron = layer.neurons[static_cast<size_t>(i)];
    Review out{.layer = l + 1, .neuron = i, .order = order, .evidence = k};
    const auto angle = angle_of(layer, i);
    out.angle = angle;
    const auto own = earlier(l, {i}, order);
    const auto others =
        layer.reads.empty() ? own : earlier(l, layer.reads[static_cast<size_t>(i)], order);
    const auto prompt =
        l == 0 ? ask_for_review(pair_, order, angle, neuron.role)
               : ask_again(pair_, order, angle, own,
                           layer.reads.empty() ? std::vector<std::string>() : others, neuron.role);
    out.prompt = prompt.user;
    data::ChatRequest request{.model = neuron.model,
                              .messages = {{"system", prompt.system}, {"user", prompt.user}},
                              .temperature = neuron.temperature,
                              .max_tokens = neuron.max_tokens};
    // Neurons that go round over the same angles ask the same words and want answers of their own.
    const auto asker = l * std::ssize(layer.neurons) + i;
    for (out.tries = 1;; ++out.tries) {
      request.sample = (asker * neuron.evidences + k) * network_.tries + out.tries - 1;
      out.text = call(request);
      const auto scores = parse_scores(out.text);
      if (scores) out.score1 = scores->first, out.score2 = scores->second;
      out.readable = scores.has_value();
      if (out.readable || out.tries == network_.tries) break;
    }
    if (order == Order::swapped) {
      std::swap(out.score1, out.score2);
      out.text = exchange_names(out.text);
    }
    return out;
  }

  // Its own angle first, then those of the neurons it reads.
  std::string angle_of(const Layer& layer, int64_t i) const {
    auto all = angles_[static_cast<size_t>(i)];
    if (!layer.reads.empty())
      for (const auto j : layer.reads[static_cast<size_t>(i)])
        for (const auto& angle : angles_[static_cast<size_t>(j)])
          if (std::find(all.begin(), all.end(), angle) == all.end()) all.push_back(angle);
    return fmt::format("{}", fmt::join(all, ", "));
  }

  // After a layer, its neurons hold the angles that they read as their own.
  void widen_angles(const Layer& layer) {
    if (layer.reads.empty()) return;
    const auto before = angles_;
    for (size_t i = 0; i < angles_.size(); ++i)
      for (const auto j : layer.reads[i])
        for (const auto& angle : before[static_cast<size_t>(j)])
          if (std::find(angles_[i].begin(), angles_[i].end(), angle) == angles_[i].end())
            angles_[i].push_back(angle);
  }

  // What these neurons wrote before layer l, under the names of this order.
  std::vector<std::string> earlier(int64_t l, const std::vector<int64_t>& neurons,
                                   Order order) const {
    std::vector<std::string> out;
    for (const auto j : neurons)
      for (const auto& review : trace_.reviews)
        if (review.neuron == j && review.layer <= l &&
            (network_.whole_history || review.layer == l))
          out.push_back(order == Order::swapped ? exchange_names(review.text) : review.text);
    return out;
  }

  std::string call(const data::ChatRequest& request) {
    auto reply = ask_(request);
    ++trace_.calls;
    trace_.prompt_tokens += reply.prompt_tokens;
    trace_.completion_tokens += reply.completion_tokens;
    return std::move(reply.content);
  }

  const Network& network_;
  const Pair& pair_;
  const Ask& ask_;
  Trace trace_;
  std::vector<std::vector<std::string>> angles_;  // of each neuron
};

}  // namespace

Trace forward(const Network& network, const Pair& pair, const Ask& ask) {
  return Run(network, pair, ask)();
}

Json write_trace(const Pair& pair, const Trace& trace) {
  Json reviews = Json::array();
  for (const auto& r : trace.reviews)
    reviews.push_back({{"layer", r.layer},
                       {"neuron", r.neuron},
                       {"order", to_name(r.order)},
                       {"evidence", r.evidence},
                       {"tries", r.tries},
                       {"angle", r.angle},
                       {"prompt", r.prompt},
                       {"review", r.text},
                       {"scores", {r.score1, r.score2}},
                       {"readable", r.readable}});
  return {{"query", pair.query},
          {"response1", pair.response1},
          {"response2", pair.response2},
          {"dataset", pair.dataset},
          {"human", static_cast<int>(pair.human)},
          {"angles", trace.angles},
          {"angles_reply", trace.angles_reply},
          {"reviews", reviews},
          {"score", {trace.score1, trace.score2}},
          {"verdict", static_cast<int>(trace.verdict)},
          {"calls", trace.calls},
          {"prompt_tokens", trace.prompt_tokens},
          {"completion_tokens", trace.completion_tokens}};
}

}  // namespace cajal::judges
