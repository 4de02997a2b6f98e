#pragma once
// From inputs to portions of documents, in bounded memory: a document of any size is cut into portions where
// it may be cut.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/input_files.h"
#include "data/tokenizer.h"

namespace dm::data {

enum class DocumentRule {
  by_name,     // jsonl for names that end in .jsonl or .ndjson (also before .gz, .zst), file for others
  file,        // one document a file
  blank_line,  // documents are separated by lines that hold nothing but spaces and tabs
  jsonl,       // one JSON object a line
};

/// What one worker encodes at a time: parts of documents, or whole lines of JSON.
struct Portion {
  struct Part {
    size_t end = 0;      // in `text`; it begins where the part before it ends
    bool first = false;  // of its document
    bool last = false;
  };
  std::string text;
  std::vector<Part> parts;  // empty when the text is JSON lines
  bool json_lines = false;
  std::string source;      // for messages
  int64_t first_line = 1;  // of JSON lines
  int64_t empty_documents = 0;
  int64_t end_bytes = 0;  // of the inputs taken when this portion was cut, packed as they are
};

/// A document goes to the train or the held-out side by its first bytes, so the side of a document of any
/// size is known before its first token is written: by this many.
inline constexpr size_t kSideBytes = 64 << 10;

/// A JSON line is parsed whole, so its length is bounded; throws ExitCode::bad_data for a longer one.
inline constexpr size_t kMaxJsonLineBytes = 64 << 20;
void check_line_length(size_t size_bytes, const std::string& source, int64_t line);

/// Tokenizers that cannot cut a document, or find no place to, need it whole: up to this size.
inline constexpr size_t kMaxWholeBytes = 64 << 20;

struct DocumentReader {
  DocumentRule rule = DocumentRule::by_name;
  size_t portion_bytes = 1 << 20;  // about; a first part that is not the last has at least kSideBytes
  const Tokenizer& tokenizer;

  /// Reads all inputs and hands out their portions in order. Throws ExitCode::bad_data for damaged archives
  /// and JSON lines that are too long, naming file and line, and for documents that are too long to be
  /// encoded whole; ExitCode::interrupted after a signal.
  void read(const std::vector<InputFile>& files, const std::function<void(Portion)>& emit) const;
};

}  // namespace dm::data
