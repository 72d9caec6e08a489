#include "cajal/models/judges/assist.h"

#include <fstream>
#include <istream>
#include <ostream>
#include <set>

#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/core/timing.h"

namespace cajal::judges {
namespace {

std::vector<Json> read_lines(const std::filesystem::path& path) {
  const auto content = read_file(path, size_t{1} << 30);
  std::vector<Json> out;
  int64_t number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const auto end = std::min(content.find('\n', begin), content.size());
    ++number;
    if (end > begin)
      out.push_back(parse_json(std::string_view(content).substr(begin, end - begin),
                               fmt::format("{}: line {}", path.string(), number)));
    begin = end + 1;
  }
  return out;
}

int64_t integer(const Json& json, const char* name, const std::filesystem::path& path) {
  require(json.is_object() && json.contains(name) && json[name].is_number_integer(),
          "{}: a line without the number '{}'", path.string(), name);
  return json[name].get<int64_t>();
}

std::string text(const Json& json, const char* name, const std::filesystem::path& path) {
  require(json.is_object() && json.contains(name) && json[name].is_string(),
          "{}: a line without the text '{}'", path.string(), name);
  return json[name].get<std::string>();
}

const char* verdict_name(int64_t verdict) { return verdict == 1 ? "1" : verdict == 2 ? "2" : "t"; }

void show(const Json& pair, const std::filesystem::path& path, std::ostream& out) {
  out << "\n== " << text(pair, "query", path) << "\n-- Assistant 1\n"
      << text(pair, "response1", path) << "\n-- Assistant 2\n"
      << text(pair, "response2", path) << "\n";
  require(pair.contains("reviews") && pair["reviews"].is_array(), "{}: a line without 'reviews'",
          path.string());
  for (const auto& review : pair["reviews"])
    out << "-- layer " << integer(review, "layer", path) << ", " << text(review, "angle", path)
        << "\n"
        << text(review, "review", path) << "\n";
  out << "verdict [" << verdict_name(integer(pair, "verdict", path)) << "]: 1, 2, t, q > ";
}

}  // namespace

Assisted assist(const std::filesystem::path& trace, const std::filesystem::path& log,
                std::istream& in, std::ostream& out) {
  Assisted result;
  std::set<int64_t> decided;
  const auto count = [&](const Json& line) {
    decided.insert(integer(line, "pair", log));
    ++result.pairs;
    result.agreed += integer(line, "verdict", log) == integer(line, "filled_in", log);
    require(line.contains("seconds") && line["seconds"].is_number(), "{}: a line without 'seconds'",
            log.string());
    result.seconds += line["seconds"].get<double>();
  };
  if (std::filesystem::exists(log))
    for (const auto& line : read_lines(log)) count(line);
  const auto pairs = read_lines(trace);
  std::ofstream file(log, std::ios::app);
  require(file.good(), "{}: cannot be written", log.string());
  for (int64_t i = 0; i < std::ssize(pairs); ++i) {
    if (decided.contains(i)) continue;
    const auto& pair = pairs[static_cast<size_t>(i)];
    const auto filled_in = integer(pair, "verdict", trace);
    show(pair, trace, out);
    const Stopwatch watch;
    int64_t verdict = -1;
    for (std::string answer; verdict < 0;) {
      if (!std::getline(in, answer) || answer == "q") return result;
      if (answer.empty()) verdict = filled_in;
      if (answer == "1" || answer == "2") verdict = answer[0] - '0';
      if (answer == "t") verdict = 0;
      if (verdict < 0) out << "1, 2, t (tie), q, or nothing for the verdict filled in > ";
    }
    const Json line = {
        {"pair", i}, {"filled_in", filled_in}, {"verdict", verdict}, {"seconds", watch.seconds()}};
    file << line.dump() << std::endl;
    require(file.good(), "{}: cannot be written", log.string());
    count(line);
  }
  return result;
}

std::string assisted_text(const Assisted& r) {
  if (r.pairs == 0) return "nothing was decided\n";
  const auto n = static_cast<double>(r.pairs);
  return fmt::format("{} pairs, {:.1f} s each, {:.1f} % as filled in\n", r.pairs, r.seconds / n,
                     100 * static_cast<double>(r.agreed) / n);
}

Json write_assisted(const Assisted& r) {
  return {{"pairs", r.pairs}, {"agreed", r.agreed}, {"seconds", r.seconds}};
}

}  // namespace cajal::judges
