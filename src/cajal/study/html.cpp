#include "cajal/study/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "cajal/core/error.h"

namespace cajal::html {
namespace {

/// Bytes of the valid UTF-8 character at the start of `text`; 0 when there is none.
size_t character_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const size_t count = lead < 0x80   ? 1
                       : lead < 0xc2 ? 0
                       : lead < 0xe0 ? 2
                       : lead < 0xf0 ? 3
                       : lead < 0xf5 ? 4
                                     : 0;
  if (count == 0 || count > text.size()) return 0;
  for (size_t i = 1; i < count; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const bool overlong = (lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xf0 && byte(1) < 0x90);
  const bool surrogate = lead == 0xed && byte(1) > 0x9f, beyond = lead == 0xf4 && byte(1) > 0x8f;
  return overlong || surrogate || beyond ? 0 : count;
}

bool is_number(std::string_view text) {
  if (text.empty()) return false;
  const std::string copy(text);
  char* end = nullptr;
  std::strtod(copy.c_str(), &end);
  const std::string_view rest = end;
  return end != copy.c_str() &&
         (rest.empty() || rest.starts_with(" ±") || rest == " %" || rest == "x");
}

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--ink:#1c1e21;--muted:#66707c;--ground:#fff;--line:#d9dde2;--shade:213,94,0}
@media (prefers-color-scheme:dark){:root{--ink:#e3e5e8;--muted:#98a2ad;--ground:#16181c;--line:#363b42}}
body{margin:2rem auto;padding:0 1rem;max-width:60rem;color:var(--ink);background:var(--ground);
font:16px/1.55 system-ui,sans-serif}
h1{font-size:1.8rem;line-height:1.2}h2{margin-top:2.4rem;font-size:1.3rem}h3{font-size:1.1rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0;font-size:.95rem}
th,td{padding:.35rem .8rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{color:var(--muted);font-weight:600}td.number,th.number{text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums}
.note{color:var(--muted);font-size:.9rem}code,pre{font:.9em/1.5 ui-monospace,monospace}
pre{padding:.8rem;border:1px solid var(--line);border-radius:6px;overflow-x:auto}
.figures{display:flex;flex-wrap:wrap;gap:1rem;margin:1.2rem 0}
.figures div{padding:.7rem 1.1rem;border:1px solid var(--line);border-radius:8px}
.figures b{display:block;font-size:1.5rem;font-weight:600}.figures span{color:var(--muted);font-size:.9rem}
.shaded{white-space:pre-wrap;font:.95em/1.7 ui-monospace,monospace}.shaded span{border-radius:3px}
figure{margin:1.2rem 0}figure svg{max-width:100%;height:auto}figcaption{color:var(--muted);font-size:.9rem}
@media print{body{margin:0;max-width:none;font-size:11pt}figure,table,.figures{break-inside:avoid}
h2,h3{break-after:avoid}}
)";

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t count = character_bytes(text);
    const char c = text[0];
    if (count == 0 ||
        (count == 1 && static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t')) {
      out += "\uFFFD";
    } else if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'') {
      out += c == '<'   ? "&lt;"
             : c == '>' ? "&gt;"
             : c == '&' ? "&amp;"
             : c == '"' ? "&quot;"
                        : "&#39;";
    } else {
      out += text.substr(0, count);
    }
    text.remove_prefix(std::max<size_t>(count, 1));
  }
  return out;
}

Page::Page(std::string title) : title_(std::move(title)) {}

Page& Page::heading(std::string_view text, int level) {
  require(level >= 2 && level <= 4, "heading level {}: expected 2 to 4", level);
  return raw(fmt::format("<h{0}>{1}</h{0}>\n", level, escape(text)));
}

Page& Page::paragraph(std::string_view text) { return raw("<p>" + escape(text) + "</p>\n"); }

Page& Page::note(std::string_view text) {
  return raw("<p class=\"note\">" + escape(text) + "</p>\n");
}

Page& Page::code(std::string_view text) {
  return raw("<pre><code>" + escape(text) + "</code></pre>\n");
}

Page& Page::table(const std::vector<std::string>& columns,
                  const std::vector<std::vector<std::string>>& rows) {
  std::vector<bool> numeric(columns.size(), !rows.empty());
  for (const auto& row : rows) {
    require(row.size() == columns.size(), "a table row of {} cells, expected {}", row.size(),
            columns.size());
    for (size_t i = 0; i < row.size(); ++i)
      numeric[i] = numeric[i] && (row[i].empty() || is_number(row[i]));
  }
  const auto cell = [&](const char* tag, size_t i, const std::string& text) {
    body_ +=
        fmt::format("<{0}{1}>{2}</{0}>", tag, numeric[i] ? " class=\"number\"" : "", escape(text));
  };
  body_ += "<div class=\"scroll\"><table>\n<thead><tr>";
  for (size_t i = 0; i < columns.size(); ++i) cell("th", i, columns[i]);
  body_ += "</tr></thead>\n<tbody>\n";
  for (const auto& row : rows) {
    body_ += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) cell("td", i, row[i]);
    body_ += "</tr>\n";
  }
  return raw("</tbody></table></div>\n");
}

Page& Page::figures(const std::vector<std::pair<std::string, std::string>>& labelled) {
  body_ += "<div class=\"figures\">";
  for (const auto& [what, value] : labelled)
    body_ += fmt::format("<div><b>{}</b><span>{}</span></div>", escape(value), escape(what));
  return raw("</div>\n");
}

Page& Page::shaded(const std::vector<std::pair<std::string, double>>& pieces) {
  body_ += "<p class=\"shaded\">";
  for (const auto& [text, weight] : pieces) {
    if (weight > 0.02) {
      body_ += fmt::format("<span style=\"background:rgba(var(--shade),{:.2f})\">{}</span>",
                           0.75 * std::min(weight, 1.0), escape(text));
    } else {
      body_ += escape(text);
    }
  }
  return raw("</p>\n");
}

Page& Page::picture(std::string_view svg, std::string_view caption) {
  body_ += "<figure>";
  body_ += svg;
  if (!caption.empty()) body_ += "<figcaption>" + escape(caption) + "</figcaption>";
  return raw("</figure>\n");
}

Page& Page::raw(std::string_view markup) {
  body_ += markup;
  return *this;
}

std::string Page::html() const {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n{2}</body>\n</"
      "html>\n",
      escape(title_), kStyle, body_);
}

}  // namespace cajal::html
