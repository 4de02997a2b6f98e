#include "train/monitor/report/report.h"

#include "core/error.h"
#include "train/monitor/report/page.h"

namespace dm::train {
namespace {

void replace_mark(std::string& text, const std::string& mark, const std::string& by) {
  const size_t at = text.find(mark);
  DM_CHECK(at != std::string::npos, "the page of reports lacks {}", mark);
  text.replace(at, mark.size(), by);
}

/// JSON inside of a script element: nothing in it may look like that element's end.
std::string script_text(const Json& json) {
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  for (size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at))
    text.replace(at, 1, "\\u003c");
  return text;
}

}  // namespace

std::string report_html(const Json& data) {
  std::string html = kReportPage;
  replace_mark(html, "@style@", kReportStyle);
  replace_mark(html, "@script@", kReportScript);
  replace_mark(html, "@data@", script_text(data));
  return html;
}

}  // namespace dm::train
