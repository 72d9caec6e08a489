#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cajal/core/options.h"

/// Judging which of two answers is better by a small network whose neurons are calls of a chat
/// model. Source: dossier wide-deep-evaluator (Zhang and others 2023, arXiv 2308.01862).
namespace cajal::judges {

enum class Verdict : int { tie = 0, first = 1, second = 2 };
constexpr int kVerdicts = 3;

/// What kind of task the answers are of; it sets the words of the prompts.
enum class Task {
  question,
  summary,
  story,
  data_to_text,
  inference,
  dialogue,
  conversation,  // a dialogue of several turns
  safety,
  code
};

/// Two answers to one query, and which one people prefer.
struct Pair {
  std::string query = {}, response1 = {}, response2 = {};
  Verdict human = Verdict::tie;
  std::string dataset = "";
  Task task = Task::question;
};

/// The task of a data set of LLMEval2 by its name ("summeval", "code-contests"), or of a task by
/// its own; a question for other names.
Task task_of(const std::string& dataset);

/// Reads pairs, a JSON object a line: {"query", "response1", "response2", "human", "dataset"}.
/// `human` is 1, 2 or 0 (tie), also as text, and may be missing where nobody judged; "tie" is 0.
/// Throws Error that names file, line and field.
std::vector<Pair> read_pairs(const std::filesystem::path& path);

/// The same pair with its answers in the other order.
Pair swapped(const Pair& pair);
Verdict swapped(Verdict verdict);

}  // namespace cajal::judges

CAJAL_ENUM(cajal::judges::Verdict, {cajal::judges::Verdict::tie, "tie"},
           {cajal::judges::Verdict::first, "first"}, {cajal::judges::Verdict::second, "second"})
CAJAL_ENUM(cajal::judges::Task, {cajal::judges::Task::question, "question"},
           {cajal::judges::Task::summary, "summary"}, {cajal::judges::Task::story, "story"},
           {cajal::judges::Task::data_to_text, "data_to_text"},
           {cajal::judges::Task::inference, "inference"},
           {cajal::judges::Task::dialogue, "dialogue"},
           {cajal::judges::Task::conversation, "conversation"},
           {cajal::judges::Task::safety, "safety"}, {cajal::judges::Task::code, "code"})
