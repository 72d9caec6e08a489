#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/models/judges/rehearsal.h"
#include "cajal/models/judges/simulated_worlds.h"
#include "core/scratch.h"

namespace cajal::judges {
namespace {

const Pair kPair{"What is 2 + 2?", "Four.", "Five.", Verdict::first, "shp"};

std::string reply_of(double first, double second) {
  return fmt::format("Review: so.\nScore of Assistant 1: {}\nScore of Assistant 2: {}\n", first,
                     second);
}

TEST(Prompts, ShowTheAnswersInTheirOrder) {
  const auto forward = ask_for_review(kPair, Order::forward, "Accuracy").user;
  const auto back = ask_for_review(kPair, Order::swapped, "Accuracy").user;
  EXPECT_LT(forward.find("Four."), forward.find("Five."));
  EXPECT_GT(back.find("Four."), back.find("Five."));
  EXPECT_NE(forward.find("from this angle: Accuracy."), std::string::npos);
}

TEST(Prompts, DifferByTask) {
  std::set<std::string> systems, angles;
  for (const auto& [task, name] : EnumNames<Task>::values) {
    auto pair = kPair;
    pair.task = task;
    systems.insert(ask_for_review(pair, Order::forward, "").system);
    angles.insert(ask_for_angles(pair, 2));
  }
  EXPECT_EQ(systems.size(), std::size(EnumNames<Task>::values));
  EXPECT_EQ(angles.size(), std::size(EnumNames<Task>::values));
  EXPECT_EQ(task_of("code-contests"), Task::code);
  EXPECT_EQ(task_of("webgpt"), Task::question);
}

TEST(Prompts, ReadAnglesBetweenTheirMarks) {
  EXPECT_EQ(parse_angles("1. $Accuracy& facts\n$ Clear\nness & x $cut", Task::question),
            (std::vector<std::string>{"Accuracy", "Clearness"}));
  EXPECT_EQ(parse_angles("$a && b@ $c&", Task::code), (std::vector<std::string>{"a && b"}));
  EXPECT_TRUE(parse_angles("$ & none", Task::question).empty());
}

TEST(Prompts, ReadScoresWithAndWithoutTheArticle) {
  const auto scores = parse_scores("Score of the Assistant 1:  7.5\nScore of Assistant 2: 8.");
  ASSERT_TRUE(scores);
  EXPECT_EQ(scores->first, 7.5);
  EXPECT_EQ(scores->second, 8);
  for (const auto* bad : {"", "Score of Assistant 1: 7",
                          "Score of Assistant 1: seven\nScore of "
                          "Assistant 2: 3",
                          "Score of Assistant 1: 700\nScore of Assistant 2: 3",
                          "Score of Assistant 1: nan\nScore of Assistant 2: 3",
                          "Score of Assistant 1: -1\nScore of Assistant 2: 3"})
    EXPECT_FALSE(parse_scores(bad)) << bad;
}

TEST(Prompts, ExchangingNamesTwiceGivesTheTextBack) {
  for (const std::string text :
       {"Assistant 1 beats Assistant 2.", "Assistant", "Assistant ",
        "***** Assistant 12 Assistant 3", "Assistant 1Assistant 2Assistant 1", ""}) {
    EXPECT_EQ(exchange_names(exchange_names(text)), text);
  }
  EXPECT_EQ(exchange_names("Assistant 1 beats Assistant 2."), "Assistant 2 beats Assistant 1.");
}

// Two neurons, two layers, both orders, replies that are known: all worked out by hand.
TEST(Network, OfTwoByTwoEqualsAHandComputedReference) {
  const auto ask = [](const data::ChatRequest& r) -> data::ChatReply {
    const auto& text = r.messages.back().content;
    if (r.messages.size() == 1) return {"$Accuracy& a\n$Style& b", 10, 1};
    const bool forward = text.find("Four.") < text.find("Five.");
    const bool style_first = text.find("angle: Style") != text.npos;
    const bool later = text.find(kColleagues) != text.npos;
    // As Assistant 1 and 2 of the order shown.
    if (!later && !style_first) return {forward ? reply_of(8, 6) : reply_of(5, 7), 20, 2};
    if (!later) return {forward ? reply_of(9, 1) : reply_of(4, 4), 20, 2};
    return {style_first ? reply_of(3, 10) : forward ? reply_of(2, 3) : reply_of(6, 6.5), 30, 3};
  };
  const auto trace = forward(wide_deep(2, 2), kPair, ask);
  ASSERT_EQ(trace.reviews.size(), 8u);
  EXPECT_EQ(trace.angles, (std::vector<std::string>{"Accuracy", "Style"}));
  // First answer: 8 7 | 9 4 | 2 6.5 | 3 10; second: 6 5 | 1 4 | 3 6 | 10 3.
  EXPECT_EQ(trace.score1, (8 + 7 + 9 + 4 + 2 + 6.5 + 3 + 10) / 8);
  EXPECT_EQ(trace.score2, (6 + 5 + 1 + 4 + 3 + 6 + 10 + 3) / 8.0);
  EXPECT_EQ(trace.verdict, Verdict::first);
  EXPECT_EQ(trace.calls, 9);
  EXPECT_EQ(trace.prompt_tokens, 10 + 4 * 20 + 4 * 30);
  EXPECT_EQ(differences(trace), (std::vector<double>{2, 4, -0.25, 0}));

  auto network = wide_deep(2, 2);
  auto copy = trace;
  network.readout = Readout::last_layer;
  read_out(network, copy);
  EXPECT_EQ(copy.score1 - copy.score2, (2 + 6.5 + 3 + 10 - 3 - 6 - 10 - 3) / 4);
  EXPECT_EQ(copy.verdict, Verdict::second);
  network.readout = Readout::majority;  // 5 for the first, 2 for the second, 1 tie
  read_out(network, copy);
  EXPECT_EQ(copy.verdict, Verdict::first);
  network.readout = Readout::mean, network.tie_band = 2;
  read_out(network, copy);
  EXPECT_EQ(copy.verdict, Verdict::tie);
  network.readout = Readout::learned, network.tie_band = 0, network.weights = {0, 0, 4, 0, 0.5};
  read_out(network, copy);
  EXPECT_EQ(copy.verdict, Verdict::second);
}

// Each neuron signs its reviews; later prompts must quote exactly the neighbours' signatures.
std::set<std::pair<int64_t, int64_t>> edges(const Network& network) {
  const auto ask = [](const data::ChatRequest& r) -> data::ChatReply {
    const auto& text = r.messages.back().content;
    if (r.messages.size() == 1) return {"$a0& $a1& $a2& $a3& $a4&"};
    const auto at = text.find("angle: a");
    return {fmt::format("signed <{}>\n{}", text[at + 8], reply_of(5, 5))};
  };
  std::set<std::pair<int64_t, int64_t>> found;
  for (const auto& review : forward(network, kPair, ask).reviews) {
    if (review.layer != 2) continue;
    const auto part = review.prompt.substr(review.prompt.find(kColleagues));
    for (int64_t j = 0; j < 5; ++j)
      if (part.find(fmt::format("signed <{}>", j)) != part.npos) found.insert({review.neuron, j});
    EXPECT_NE(review.prompt.find(fmt::format("signed <{}>", review.neuron)), std::string::npos);
  }
  return found;
}

TEST(Network, OfWindowTwoReadsTheNeighboursOnEachSide) {
  EXPECT_EQ(edges(wide_deep(5, 2, 2)),
            (std::set<std::pair<int64_t, int64_t>>{
                {0, 1}, {1, 0}, {1, 2}, {2, 1}, {2, 3}, {3, 2}, {3, 4}, {4, 3}}));
}

TEST(Network, OfNoWindowReadsEveryOne) {
  const auto found = edges(wide_deep(5, 2, 0));
  EXPECT_EQ(found.size(), 20u);
  for (int64_t i = 0; i < 5; ++i) EXPECT_FALSE(found.contains({i, i}));
}

TEST(Network, QuotesUnderTheNamesOfItsOrderAndWidensAngles) {
  const auto ask = [](const data::ChatRequest& r) -> data::ChatReply {
    if (r.messages.size() == 1) return {"$a& $b& $c&"};
    const auto& text = r.messages.back().content;
    const bool forward = text.find("Four.") < text.find("Five.");
    return {fmt::format("I saw Assistant {}.\n{}", forward ? 1 : 2, reply_of(6, 5))};
  };
  auto network = wide_deep(3, 3, 2);
  for (const auto& review : forward(network, kPair, ask).reviews) {
    EXPECT_NE(review.text.find("I saw Assistant 1."), std::string::npos);  // as in forward order
    if (review.layer == 1) continue;
    const bool back = review.order == Order::swapped;
    EXPECT_EQ(review.prompt.find("I saw Assistant 1.") == std::string::npos, back);
    EXPECT_EQ(review.prompt.find("I saw Assistant 2.") != std::string::npos, back);
    if (review.neuron > 0) continue;
    EXPECT_EQ(review.angle, review.layer == 2 ? "a, b" : "a, b, c");
  }
}

TEST(Network, AsksAgainWhatItCannotReadAndThenLeavesItOut) {
  int64_t calls = 0;
  const auto sulks = [&](const data::ChatRequest& r) -> data::ChatReply {
    ++calls;
    const auto& text = r.messages.back().content;
    if (text.find("Four.") > text.find("Five.")) return {"no"};
    return {r.sample % 10 < 3 ? "hm" : reply_of(7, 4)};
  };
  const auto trace = forward(single_judge({Order::forward, Order::swapped}), kPair, sulks);
  EXPECT_EQ(calls, 4 + 10);
  EXPECT_EQ(trace.reviews[0].tries, 4);
  EXPECT_FALSE(trace.reviews[1].readable);
  EXPECT_EQ(trace.score1, 7);
  EXPECT_EQ(trace.score2, 4);
}

TEST(Network, FewerAnglesThanNeuronsGoRoundAndNoneFallBack) {
  const auto with = [](const char* angles) {
    return [=](const data::ChatRequest& r) -> data::ChatReply {
      return {r.messages.size() == 1 ? angles : reply_of(1, 2)};
    };
  };
  const auto few = forward(wide_deep(3, 1), kPair, with("$x& $y&"));
  EXPECT_EQ(few.reviews[4].angle, "x");
  const auto none = forward(wide_deep(2, 1), kPair, with("sorry"));
  EXPECT_EQ(none.angles, (std::vector<std::string>{"Accuracy", "Relevance"}));
  EXPECT_EQ(none.calls, 10 + 4);
  EXPECT_EQ(forward(wide_deep(0, 2), kPair, with("$x& $y& $z&")).reviews.size(), 12u);
}

TEST(Network, RefusesSizesThatDoNotFit) {
  const Ask ask = [](const data::ChatRequest&) -> data::ChatReply { return {reply_of(1, 2)}; };
  EXPECT_THROW(wide_deep(2, 0), Error);
  auto network = wide_deep(2, 2);
  network.layers[1].reads[0] = {5};
  EXPECT_THROW(forward(network, kPair, ask), Error);
  network = wide_deep(2, 2);
  network.layers[1].neurons.pop_back();
  EXPECT_THROW(forward(network, kPair, ask), Error);
  EXPECT_THROW(forward({}, kPair, ask), Error);
}

TEST(Evaluate, DoesNotDependOnTheOrderOfReplies) {
  const SimulatedWorld world(40, 1);
  const auto slow = [&](const data::ChatRequest& r) {
    thread_local Random random(std::hash<std::thread::id>()(std::this_thread::get_id()));
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(300)));
    return world.answer(r);
  };
  const auto network = wide_deep(3, 2);
  const auto one = evaluate(network, world.pairs(), world.ask(), {.workers = 1});
  const auto many = evaluate(network, world.pairs(), slow, {.workers = 8});
  for (size_t i = 0; i < one.size(); ++i)
    EXPECT_EQ(write_trace(world.pairs()[i], one[i]), write_trace(world.pairs()[i], many[i]));
}

TEST(Evaluate, ThrowsWhatAWorkerThrew) {
  const SimulatedWorld world(40, 1);
  std::atomic<int> calls = 0;
  const Ask ask = [&](const data::ChatRequest& r) {
    require(++calls < 30, "the line is dead");
    return world.answer(r);
  };
  EXPECT_EQ(error_of([&] { evaluate(wide_deep(2, 1), world.pairs(), ask); }), "the line is dead");
}

TEST(Simulated, HasTheClassesOfTheBenchmark) {
  const SimulatedWorld world(2553, 3);
  std::map<Verdict, int> counts;
  for (const auto& pair : world.pairs()) ++counts[pair.human];
  EXPECT_EQ(counts[Verdict::first], 1050);
  EXPECT_EQ(counts[Verdict::second], 1021);
  EXPECT_EQ(counts[Verdict::tie], 482);
}

TEST(Simulated, DeterministicJudgesInBothOrdersNeverFlip) {
  const SimulatedWorld world(200, 2);
  std::vector<Pair> exchanged;
  for (const auto& pair : world.pairs()) exchanged.push_back(swapped(pair));
  const Neuron calm{.temperature = 0};
  const auto flips = [&](const Network& network) {
    return flip_rate(evaluate(network, world.pairs(), world.ask()),
                     evaluate(network, exchanged, world.ask()));
  };
  EXPECT_EQ(flips(wide_deep(3, 2, 2, calm)), 0);
  EXPECT_EQ(flips(single_judge({Order::forward, Order::swapped}, 1, calm)), 0);
  EXPECT_GT(flips(single_judge({Order::forward}, 1, calm)), 0.02);
}

TEST(Simulated, RefusesWhatItDoesNotKnow) {
  const SimulatedWorld world(5, 2);
  EXPECT_THROW(world.answer({.messages = {{"user", "hello"}}}), Error);
  EXPECT_THROW(world.answer({}), Error);
}

TEST(SimulatedWorlds, ScoreEveryWorldAndTeachWeights) {
  const SimulatedWorlds worlds(2, 60);
  const auto scores = worlds.run(wide_deep(1, 1));
  EXPECT_EQ(scores.kappa.size(), 2u);
  EXPECT_EQ(scores.calls[0], worlds.run(wide_deep(1, 1)).calls[0]);
  EXPECT_GT(scores.flips[0], 0);
  const auto taught = worlds.taught(wide_deep(2, 1));
  EXPECT_EQ(taught.readout, Readout::learned);
  EXPECT_EQ(taught.weights.size(), 3u);  // of two neurons, and a bias
}

TEST(Rehearsal, OutlivesABadDayAndRepeatsNothing) {
  if (!data::ChatServer::available()) GTEST_SKIP() << "this build has no cpp-httplib";
  const SimulatedWorld world(6, 1);
  const auto cache =
      std::filesystem::temp_directory_path() / fmt::format("cajal-rehearsal-{}", ::getpid());
  const auto r = rehearse(world, wide_deep(2, 1), {.rate_limited = 0.2, .malformed = 0.1}, cache);
  EXPECT_EQ(r.scored, 6);
  EXPECT_EQ(r.cached, r.before);
  EXPECT_GT(r.requests, r.calls);
  EXPECT_TRUE(r.key_kept);
  EXPECT_FALSE(std::filesystem::exists(cache));
}

TEST(FitWeights, FindTheNeuronThatKnows) {
  Random random(5);
  std::vector<Pair> pairs;
  std::vector<Trace> traces;
  for (int i = 0; i < 300; ++i) {
    Trace trace;
    const double knows = random.normal(), guesses = random.normal();
    for (int64_t n = 0; n < 2; ++n)
      trace.reviews.push_back({.neuron = n, .score1 = 5 + (n == 0 ? knows : guesses), .score2 = 5});
    traces.push_back(trace);
    pairs.push_back(kPair);
    pairs.back().human = knows > 0 ? Verdict::first : Verdict::second;
  }
  const auto weights = fit_weights(pairs, traces);
  ASSERT_EQ(weights.size(), 3u);
  EXPECT_GT(weights[0], 10 * std::fabs(weights[1]));
}

class Pairs : public Scratch {};

TEST_F(Pairs, AreReadFromLinesOfJson) {
  const auto pairs = read_pairs(put(
      "p.jsonl",
      "{\"query\":\"q\",\"response1\":\"a\",\"response2\":\"b\",\"human\":2,\"dataset\":\"bagel\"}"
      "\n\n{\"query\":\"q\",\"response1\":\"a\",\"response2\":\"b\",\"human\":\"tie\"}"));
  ASSERT_EQ(pairs.size(), 2u);
  EXPECT_EQ(pairs[0].human, Verdict::second);
  EXPECT_EQ(pairs[0].task, Task::data_to_text);
  EXPECT_EQ(pairs[1].human, Verdict::tie);
}

TEST_F(Pairs, SayLineAndFieldOfWhatIsWrong) {
  const std::string whole = R"({"query":"q","response1":"a","response2":"b","human":1})";
  for (const auto& [bad, part] : {std::pair("{\"query\":\"q\"}", "response1"),
                                  std::pair("[1]", "query"), std::pair("\xff", "line 2"),
                                  std::pair(R"({"query":"q","response1":"a","response2":"b",)"
                                            R"("human":7})",
                                            "human")}) {
    const auto error = error_of([&] { read_pairs(put("p.jsonl", whole + "\n" + bad)); });
    EXPECT_NE(error.find("p.jsonl: line 2"), std::string::npos) << error;
    EXPECT_NE(error.find(part), std::string::npos) << error;
  }
  EXPECT_NE(error_of([&] { read_pairs(put("p.jsonl", "")); }), "");
}

}  // namespace
}  // namespace cajal::judges
