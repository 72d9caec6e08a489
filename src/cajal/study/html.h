#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cajal::html {

/// Text with <, >, &, and quotes written as entities; invalid UTF-8 becomes U+FFFD.
std::string escape(std::string_view text);

/// One self-contained page: no scripts, no outside files; light or dark as the reader's system is,
/// and printable. Everything but `raw` is escaped.
class Page {
 public:
  explicit Page(std::string title);

  Page& heading(std::string_view text, int level = 2);  // 2 to 4
  Page& paragraph(std::string_view text);
  Page& note(std::string_view text);  // smaller and muted
  Page& code(std::string_view text);

  /// Cells that are numbers stand right, in figures of equal width.
  Page& table(const std::vector<std::string>& columns,
              const std::vector<std::vector<std::string>>& rows);

  /// Figures to be seen at once: what, how much, e.g. {{"smaller by", "38 %"}}.
  Page& figures(const std::vector<std::pair<std::string, std::string>>& labelled);

  /// Running text whose pieces are shaded by a weight from 0 to 1, e.g. a neuron's activation.
  Page& shaded(const std::vector<std::pair<std::string, double>>& pieces);

  /// An SVG document made here (see plot::svg), with a caption.
  Page& picture(std::string_view svg, std::string_view caption = "");

  Page& raw(std::string_view markup);

  std::string html() const;

 private:
  std::string title_, body_;
};

}  // namespace cajal::html
