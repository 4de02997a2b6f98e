#pragma once
// Text to token shards: inputs -> documents -> token ids -> OUTPUT/train and, with a held-out share,
// OUTPUT/heldout.
//
// The result depends on the inputs' bytes, the tokenizer's file and the options that change results alone:
// any number of threads, any packing (.gz, .zst) gives the same shards, byte for byte. Memory is bounded
// whatever the size of the inputs or of a document. OUTPUT appears when it is complete; a run that is
// interrupted or fails removes what it made.

#include <cstdint>
#include <string>
#include <vector>

#include "core/fields.h"

namespace dm::data {

struct PrepareConfig {
  std::vector<std::string> input;
  std::string output;
  std::string tokenizer = "bytes";
  std::string eos_token;
  std::string documents = "auto";
  std::string text_field = "text";
  std::string prompt_field = "prompt";
  std::string completion_field = "completion";
  std::vector<std::string> suffixes;
  double heldout = 0;
  int64_t shard_tokens = 268'435'456;
  int64_t threads = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("input", self.input,
      "text files, folders (searched to the bottom), JSONL files, - for standard input; .gz and .zst are "
      "unpacked");
    v("output", self.output, "folder to make: OUTPUT/train, and OUTPUT/heldout with --heldout",
      Affects::output);
    v("tokenizer", self.tokenizer,
      "bytes, a Hugging Face tokenizer.json, or a SentencePiece .model; a copy goes beside the shards");
    v("eos_token", self.eos_token,
      "token that ends documents; empty: eos_token of tokenizer_config.json beside the tokenizer.json, else "
      "<|endoftext|>, <|end_of_text|> or </s>; a .model has its own");
    v("documents", self.documents,
      "what a document is: a file, text between blank lines, or a JSON line; auto: jsonl for .jsonl and "
      ".ndjson, file for others",
      Choices{{"auto", "file", "blank-line", "jsonl"}});
    v("text_field", self.text_field, "member of a JSON line that holds the text");
    v("prompt_field", self.prompt_field, "where there is no text: member whose tokens give no loss");
    v("completion_field", self.completion_field,
      "where there is no text: member whose tokens give loss, after the prompt");
    v("suffixes", self.suffixes,
      "in folders, take only files whose names end so, e.g. .txt,.md (also before .gz and .zst); empty: all");
    v("heldout", self.heldout,
      "share of the documents that goes to OUTPUT/heldout, chosen by a hash of each document's text",
      Range{0, 0.9});
    v("shard_tokens", self.shard_tokens, "tokens after which a shard ends with its document", Range{1, 1e13});
    v("threads", self.threads, "threads that encode; 0: one a core", Range{0, 1024}, Affects::speed);
  }
};

struct PrepareResult {
  struct Side {
    int64_t documents = 0;
    int64_t tokens = 0;
    int64_t shards = 0;
  };
  Side train, heldout;
  int64_t files = 0;
  int64_t text_bytes = 0;
  int64_t empty_documents = 0;     // skipped
  int64_t invalid_utf8_bytes = 0;  // kept by "bytes", U+FFFD to a tokenizer file
  bool reused = false;  // OUTPUT was there already, from the same inputs and options; nothing was written

  /// A few lines for the terminal.
  std::string summary() const;
};

/// Throws ExitCode::usage for options that cannot be, inputs without a document, and an OUTPUT that exists
/// and was not made from these inputs and options (it is never replaced); ExitCode::bad_data for damaged
/// inputs, naming file and place; ExitCode::interrupted after a signal, when everything it made is removed
/// again.
PrepareResult prepare(const PrepareConfig& config);

namespace detail {
/// As above with portions of about this size, which change nothing in the result: for the tests that show it.
PrepareResult prepare(const PrepareConfig& config, size_t portion_bytes);
}  // namespace detail

}  // namespace dm::data
