#include "data/documents.h"

#include <algorithm>

#include "core/error.h"
#include "data/byte_source.h"

namespace dm::data {
namespace {

constexpr size_t kReadBytes = 256 << 10;
constexpr size_t kMaxIndentBytes = 64 << 10;  // a line that begins with more blanks than this is text

/// Gathers the bytes of documents and cuts them into portions.
class Gatherer {
 public:
  Gatherer(const Tokenizer& tokenizer, size_t portion_bytes, const std::function<void(Portion)>& emit)
      : tokenizer_(tokenizer), portion_bytes_(portion_bytes), emit_(emit) {}

  void append(std::string_view bytes) {
    portion_.text.append(bytes);
    if (portion_.text.size() >= std::max(portion_bytes_, next_try_)) cut();
  }

  void end_document() {
    const size_t size = portion_.text.size();
    if (first_ && size == part_begin_) {
      ++portion_.empty_documents;
      return;
    }
    portion_.parts.push_back({size, first_, true});
    part_begin_ = size;
    first_ = true;
    if (size >= portion_bytes_) flush({});
  }

  void set_source(const std::string& name) { source_ = name; }
  void set_position(int64_t bytes) { position_ = bytes; }
  void finish() {
    if (!portion_.parts.empty() || portion_.empty_documents > 0) flush({});
  }

 private:
  /// Ends the portion inside a document, if there is a place to cut.
  void cut() {
    const std::string_view open = std::string_view(portion_.text).substr(part_begin_);
    const size_t whole = tokenizer_.complete_prefix(open);
    if (whole == 0 || (first_ && whole < kSideBytes)) {
      DM_REQUIRE(
          open.size() <= kMaxWholeBytes, ExitCode::bad_data,
          "{}: a document of more than {} MiB in which the tokenizer finds no place to cut; give documents "
          "that are shorter, as with --documents blank-line",
          source_, kMaxWholeBytes >> 20);
      if (!portion_.parts.empty()) return flush(std::string(open));  // what is complete need not wait
      next_try_ = portion_.text.size() + kSideBytes;
      return;
    }
    const std::string rest(open.substr(whole));
    portion_.parts.push_back({part_begin_ + whole, first_, false});
    portion_.text.resize(part_begin_ + whole);
    first_ = false;
    flush(rest, true);
  }

  void flush(std::string rest, bool cut_text = false) {
    if (!cut_text) portion_.text.resize(part_begin_);
    portion_.end_bytes = position_;
    emit_(std::move(portion_));
    portion_ = {};
    portion_.text = std::move(rest);
    part_begin_ = 0;
    next_try_ = 0;
  }

  const Tokenizer& tokenizer_;
  size_t portion_bytes_;
  const std::function<void(Portion)>& emit_;
  Portion portion_;
  size_t part_begin_ = 0;  // of the document that is open, in this portion
  bool first_ = true;      // nothing of that document has been emitted
  size_t next_try_ = 0;    // size at which to look for a cut again
  int64_t position_ = 0;
  std::string source_;  // for messages
};

/// Splits text at blank lines. A newline is text only if another line of the document follows.
class BlankLineSplitter {
 public:
  explicit BlankLineSplitter(Gatherer& out) : out_(out) {}

  void feed(std::string_view bytes) {
    while (!bytes.empty()) {
      if (in_text_) {
        const size_t end = std::min(bytes.find('\n'), bytes.size());
        out_.append(bytes.substr(0, end));
        bytes.remove_prefix(end);
        if (bytes.empty()) return;
        bytes.remove_prefix(1);
        in_text_ = false;
        held_.assign(1, '\n');
        continue;
      }
      const char byte = bytes.front();
      bytes.remove_prefix(1);
      if (byte == '\n') {  // the line was blank
        end_document();
      } else {
        held_.push_back(byte);
        if ((byte != ' ' && byte != '\t' && byte != '\r') || held_.size() > kMaxIndentBytes) begin_text();
      }
    }
  }

  void finish() {
    end_document();
    held_.clear();
  }

 private:
  void begin_text() {
    out_.append(held_);
    held_.clear();
    in_text_ = open_ = true;
  }
  void end_document() {
    if (open_) out_.end_document();
    in_text_ = open_ = false;
    held_.clear();
  }

  Gatherer& out_;
  std::string
      held_;  // the newline before this line, if it has one in its document, and the line's blanks so far
  bool in_text_ = false;  // something other than blanks has come in this line
  bool open_ = false;     // the document has text
};

class Pass {
 public:
  Pass(const DocumentReader& options, const std::function<void(Portion)>& emit)
      : options_(options),
        emit_(emit),
        gatherer_(options.tokenizer, options.portion_bytes, emit),
        buffer_(kReadBytes) {}

  void read(const InputFile& file) {
    const auto source = open_bytes(file.path);
    const std::string name = file.path == "-" ? "standard input" : file.path;
    gatherer_.set_source(name);
    switch (rule_for(file.name)) {
      case DocumentRule::jsonl: read_lines(*source, name); break;
      case DocumentRule::blank_line: {
        BlankLineSplitter splitter(gatherer_);
        while (const size_t got = fill(*source)) splitter.feed({buffer_.data(), got});
        splitter.finish();
        break;
      }
      default:
        while (const size_t got = fill(*source)) gatherer_.append({buffer_.data(), got});
        gatherer_.end_document();
    }
    done_bytes_ += source->consumed_bytes();
  }

  void finish() { gatherer_.finish(); }

 private:
  DocumentRule rule_for(const std::string& name) const {
    if (options_.rule != DocumentRule::by_name) return options_.rule;
    const std::string plain = unpacked_name(name);
    return plain.ends_with(".jsonl") || plain.ends_with(".ndjson") ? DocumentRule::jsonl : DocumentRule::file;
  }

  size_t fill(ByteSource& source) {
    const size_t got = source.read(buffer_.data(), buffer_.size());
    gatherer_.set_position(done_bytes_ + source.consumed_bytes());
    return got;
  }

  /// Portions of whole lines.
  void read_lines(ByteSource& source, const std::string& name) {
    gatherer_.finish();  // portions are either of documents or of lines
    Portion portion;
    int64_t line = 1;
    const auto emit = [&](size_t size) {
      std::string rest = portion.text.substr(size);
      portion.text.resize(size);
      portion.json_lines = true;
      portion.source = name;
      portion.first_line = line;
      portion.end_bytes = done_bytes_ + source.consumed_bytes();
      line += std::count(portion.text.begin(), portion.text.end(), '\n');
      if (size > 0) emit_(std::move(portion));
      portion = {};
      portion.text = std::move(rest);
    };
    while (const size_t got = source.read(buffer_.data(), buffer_.size())) {
      portion.text.append(buffer_.data(), got);
      if (portion.text.size() < options_.portion_bytes) continue;
      const size_t newline = portion.text.rfind('\n');
      if (newline != std::string::npos) emit(newline + 1);
      check_line_length(portion.text.size(), name, line);
    }
    emit(portion.text.size());
  }

  const DocumentReader& options_;
  const std::function<void(Portion)>& emit_;
  Gatherer gatherer_;
  std::vector<char> buffer_;
  int64_t done_bytes_ = 0;  // of the inputs before this one
};

}  // namespace

void check_line_length(size_t size_bytes, const std::string& source, int64_t line) {
  DM_REQUIRE(size_bytes <= kMaxJsonLineBytes, ExitCode::bad_data,
             "{}:{}: a line of more than {} MiB; split its document, or give it as a text file", source, line,
             kMaxJsonLineBytes >> 20);
}

void DocumentReader::read(const std::vector<InputFile>& files,
                          const std::function<void(Portion)>& emit) const {
  Pass pass(*this, emit);
  for (const InputFile& file : files) pass.read(file);
  pass.finish();
}

}  // namespace dm::data
