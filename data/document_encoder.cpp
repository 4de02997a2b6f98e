#include "data/document_encoder.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"
#include "data/utf8.h"

namespace dm::data {
namespace {

// JSON must be UTF-8, text need not be. Bytes that are no UTF-8 ride through the parser as the private code
// points U+10FF80 .. U+10FFFF (F4 8F BE 80 .. F4 8F BF BF) and become bytes again behind it; a line that has
// both is refused.
bool is_carrier(std::string_view text) {
  return text.size() >= 4 && text.starts_with("\xF4\x8F") && static_cast<unsigned char>(text[2]) >= 0xBE;
}

/// Whether a code point of U+10FC00 .. U+10FFFF is written as an escape: a pair that begins with \uDBFF.
bool has_escaped_carrier(std::string line) {
  std::transform(line.begin(), line.end(), line.begin(),
                 [](unsigned char c) { return c < 128 ? std::tolower(c) : c; });
  return line.find("\\udbff") != std::string::npos;
}

std::string with_carriers(std::string_view line, const std::string& where) {
  std::string result;
  bool ambiguous = has_escaped_carrier(std::string(line));
  while (!line.empty()) {
    const size_t length = utf8_length(line);
    ambiguous |= is_carrier(line);
    if (length > 0) {
      result.append(line.substr(0, length));
    } else {
      const auto byte = static_cast<unsigned char>(line[0]);  // 80 .. FF
      result.append("\xF4\x8F");
      result.push_back(static_cast<char>(0xBC | byte >> 6));
      result.push_back(static_cast<char>(0x80 | (byte & 0x3F)));
    }
    line.remove_prefix(std::max<size_t>(length, 1));
  }
  DM_REQUIRE(
      !ambiguous, ExitCode::bad_data,
      "{}: bytes that are no UTF-8 beside private code points from U+10FC00 up; make the line valid UTF-8",
      where);
  return result;
}

std::string without_carriers(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const bool carrier = is_carrier(text);
    result.push_back(carrier ? static_cast<char>((text[2] & 3) << 6 | (text[3] & 0x3F)) : text[0]);
    text.remove_prefix(carrier ? 4 : 1);
  }
  return result;
}

bool is_held_out(std::string_view document, double share) {
  if (share <= 0) return false;
  const uint64_t hash = xxh3_64(document.data(), std::min(document.size(), kSideBytes));
  return static_cast<double>(hash >> 11) * 0x1.0p-53 < share;
}

class JsonLines {
 public:
  JsonLines(const DocumentEncoder& encoder, EncodedPortion& out) : encoder_(encoder), out_(out) {}

  void encode(const Portion& portion) {
    std::string_view text = portion.text;
    for (int64_t number = portion.first_line; !text.empty(); ++number) {
      const size_t end = std::min(text.find('\n'), text.size());
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      check_line_length(line.size(), portion.source, number);
      encode_line(line, fmt::format("{}:{}", portion.source, number));
    }
  }

 private:
  void encode_line(std::string_view line, const std::string& where) {
    const bool carried = count_invalid_utf8(line) > 0;
    const Json json = parse_json(carried ? with_carriers(line, where) : std::string(line), where);
    DM_REQUIRE(json.is_object(), ExitCode::bad_data,
               "{}: not a JSON object; each line must be one, such as {{\"{}\": \"...\"}}", where,
               encoder_.text_field);
    const auto field = [&](const std::string& name) {
      const std::string text = required<std::string>(json, name.c_str(), where);
      return carried ? without_carriers(text) : text;
    };
    if (json.contains(encoder_.text_field)) return document("", field(encoder_.text_field));
    DM_REQUIRE(json.contains(encoder_.prompt_field) && json.contains(encoder_.completion_field),
               ExitCode::bad_data,
               "{}: has neither '{}' nor '{}' with '{}'; say where the text is with --text-field, or with "
               "--prompt-field and "
               "--completion-field",
               where, encoder_.text_field, encoder_.prompt_field, encoder_.completion_field);
    document(field(encoder_.prompt_field), field(encoder_.completion_field));
  }

  void document(const std::string& prompt, const std::string& text) {
    if (prompt.empty() && text.empty()) {
      ++out_.empty_documents;
      return;
    }
    const bool held_out = is_held_out(prompt + text, encoder_.held_out);
    bool first = true;
    const auto run = [&](const std::string& part, bool last, bool loss) {
      encoder_.tokenizer.encode(part, out_.ids);
      out_.runs.push_back({out_.ids.size(), first, last, held_out, loss});
      out_.invalid_utf8_bytes += count_invalid_utf8(part);
      out_.text_bytes += static_cast<int64_t>(part.size());
      first = false;
    };
    if (!prompt.empty()) run(prompt, false, false);
    run(text, true, true);
  }

  const DocumentEncoder& encoder_;
  EncodedPortion& out_;
};

}  // namespace

EncodedPortion DocumentEncoder::encode(const Portion& portion) const {
  EncodedPortion out;
  out.empty_documents = portion.empty_documents;
  out.end_bytes = portion.end_bytes;
  if (portion.json_lines) {
    JsonLines(*this, out).encode(portion);
    return out;
  }
  size_t begin = 0;
  for (const Portion::Part& part : portion.parts) {
    const std::string_view text = std::string_view(portion.text).substr(begin, part.end - begin);
    tokenizer.encode(text, out.ids);
    out.runs.push_back(
        {out.ids.size(), part.first, part.last, part.first && is_held_out(text, held_out), true});
    out.invalid_utf8_bytes += count_invalid_utf8(text);
    out.text_bytes += static_cast<int64_t>(text.size());
    begin = part.end;
  }
  return out;
}

}  // namespace dm::data
