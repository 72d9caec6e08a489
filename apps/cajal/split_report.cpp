#include "split_report.h"

namespace cajal {

std::string grouped(int64_t number) {
  if (number < 0) return fmt::format("-{}", grouped(-number));
  if (number < 1000) return std::to_string(number);
  return fmt::format("{},{:03}", grouped(number / 1000), number % 1000);
}

std::string megabytes(int64_t bytes) {
  return fmt::format("{:.2f} MB", static_cast<double>(bytes) / 1e6);
}

std::string forecast_table(const atlas::Census& census, surgery::Score score) {
  constexpr double ratios[] = {0.10, 0.25, 0.50};
  std::string out = fmt::format(
      "Is a split into 8 and 4 bits worth it? Share of the output energy that the heaviest "
      "neurons\n"
      "hold (by {}); it must be above the share in the second line to beat one format of equal "
      "size.\n\n{:>8}",
      to_name(score), "heavy");
  for (const double ratio : ratios)
    out += fmt::format("{:>15}", fmt::format("{:.0f} %", 100 * ratio));
  out += fmt::format("\n{:>8}", "needed");
  for (const double ratio : ratios) {
    const auto at =
        surgery::forecast(census.layers.front(), score, ratio, Format::q8_0, Format::q4_0);
    out += fmt::format("{:>15}", fmt::format("{:.1f} %", 100 * at.needed));
  }
  out += '\n';
  int wins = 0;
  for (size_t l = 0; l < census.layers.size(); ++l) {
    out += fmt::format("{:>8}", fmt::format("layer {}", l));
    for (const double ratio : ratios) {
      const auto at = surgery::forecast(census.layers[l], score, ratio, Format::q8_0, Format::q4_0);
      wins += at.wins();
      out += fmt::format("{:>15}",
                         fmt::format("{:.1f} %  {}", 100 * at.share, at.wins() ? "GO" : "no"));
    }
    out += '\n';
  }
  const auto cases = census.layers.size() * std::size(ratios);
  return out + (wins == 0 ? "Nowhere: one format of the same size is the better choice.\n"
                          : fmt::format("In {} of {} cases.\n", wins, cases));
}

std::string plan_table(const surgery::Plan& plan) {
  std::string out;
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    size_t last = l;
    while (last + 1 < plan.layers.size() && plan.layers[last + 1].groups == plan.layers[l].groups)
      ++last;
    out += last > l ? fmt::format("layers {} to {}:", l, last) : fmt::format("layer {}:", l);
    for (const auto& group : plan.layers[l].groups)
      out += group.key == group.value ? fmt::format("  {} x {}", group.neurons, group.key.text())
                                      : fmt::format("  {} x {} keys, {} values", group.neurons,
                                                    group.key.text(), group.value.text());
    out += '\n';
    l = last;
  }
  return out;
}

std::string sizes_text(const lm::Summary& before, const lm::Summary& after) {
  const auto line = [](const char* what, int64_t old, int64_t now) {
    return fmt::format("{:<24}{:>12} -> {:>10}   {:.1f} % less\n", what, megabytes(old),
                       megabytes(now),
                       100 * (1 - static_cast<double>(now) / static_cast<double>(old)));
  };
  return line("stored", before.stored_bytes, after.stored_bytes) +
         line("read for a token", before.bytes_per_token, after.bytes_per_token);
}

}  // namespace cajal
