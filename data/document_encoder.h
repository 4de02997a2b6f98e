#pragma once
// Portions of documents to token ids, with the side (train or held out) and the loss of each run of ids. What
// a worker of `prepare` does; a pure function of the portion.

#include <cstdint>
#include <string>
#include <vector>

#include "data/documents.h"
#include "data/tokenizer.h"

namespace dm::data {

struct EncodedPortion {
  struct Run {
    size_t end = 0;      // in `ids`; it begins where the run before it ends
    bool first = false;  // of its document
    bool last = false;
    bool held_out = false;  // of a first run: the side of its document
    bool loss = true;
  };
  std::vector<int32_t> ids;  // without the ids that end documents
  std::vector<Run> runs;
  int64_t invalid_utf8_bytes = 0;
  int64_t empty_documents = 0;
  int64_t text_bytes = 0;
  int64_t end_bytes = 0;  // Portion::end_bytes
};

struct DocumentEncoder {
  const Tokenizer& tokenizer;
  std::string text_field = "text";
  std::string prompt_field = "prompt";
  std::string completion_field = "completion";
  double held_out = 0;  // share of the documents, decided by XXH3-64 of a document's first kSideBytes bytes

  /// Throws ExitCode::bad_data naming file, line and remedy for JSON that is broken or lacks the fields.
  EncodedPortion encode(const Portion& portion) const;
};

}  // namespace dm::data
