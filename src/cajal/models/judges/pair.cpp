#include "cajal/models/judges/pair.h"

#include <map>

#include "cajal/core/error.h"
#include "cajal/core/files.h"

namespace cajal::judges {
namespace {

Verdict read_verdict(const Json& json, const std::string& where) {
  if (!json.contains("human") || json["human"].is_null()) return Verdict::tie;
  const auto& human = json["human"];
  const auto text = human.is_string() ? human.get<std::string>() : human.dump();
  if (text == "1" || text == "first") return Verdict::first;
  if (text == "2" || text == "second") return Verdict::second;
  if (text == "0" || text == "tie") return Verdict::tie;
  fail("{}: 'human' is {}, expected 1, 2 or 0 for a tie", where, human.dump());
}

}  // namespace

Task task_of(const std::string& dataset) {
  static const std::map<std::string, Task, std::less<>> known = {
      {"summeval", Task::summary},    {"summarizefeedback", Task::summary},
      {"openmeva", Task::story},      {"bagel", Task::data_to_text},
      {"hellaswag", Task::inference}, {"rlhf-reward-russian", Task::dialogue},
      {"hh-rlhf", Task::dialogue},    {"mt-bench", Task::conversation},
      {"pku-saferlhf", Task::safety}, {"code-contests", Task::code}};
  for (const auto& [task, name] : EnumNames<Task>::values)
    if (dataset == name) return task;
  const auto found = known.find(dataset);
  return found == known.end() ? Task::question : found->second;
}

std::vector<Pair> read_pairs(const std::filesystem::path& path) {
  const auto content = read_file(path, size_t{1} << 30);
  std::vector<Pair> pairs;
  int64_t number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const auto end = std::min(content.find('\n', begin), content.size());
    const auto line = std::string_view(content).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const auto where = fmt::format("{}: line {}", path.string(), number);
    const auto json = parse_json(line, where);
    const auto text = [&](const char* name, bool needed) -> std::string {
      const bool there = json.is_object() && json.contains(name) && json[name].is_string();
      require(there || !needed, "{}: no text '{}'", where, name);
      return there ? json[name].get<std::string>() : "";
    };
    Pair pair{text("query", true), text("response1", true), text("response2", true),
              read_verdict(json, where), text("dataset", false)};
    pair.task = task_of(pair.dataset);
    pairs.push_back(std::move(pair));
  }
  require(!pairs.empty(), "{}: no pairs, expected a JSON object a line", path.string());
  return pairs;
}

Pair swapped(const Pair& pair) {
  auto out = pair;
  std::swap(out.response1, out.response2);
  out.human = swapped(pair.human);
  return out;
}

Verdict swapped(Verdict verdict) {
  return verdict == Verdict::first    ? Verdict::second
         : verdict == Verdict::second ? Verdict::first
                                      : Verdict::tie;
}

}  // namespace cajal::judges
