#pragma once
// Text to token ids and back. Ids are below vocab_size(); eos_id() ends every document.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/hash.h"

namespace dm::data {

/// Stateless once made: any number of threads may use one.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// "bytes", or the name that a copy of the tokenizer's file gets beside shards and checkpoints:
  /// "tokenizer.json", "tokenizer.model".
  virtual const std::string& name() const = 0;
  virtual const std::string& file() const = 0;  // the bytes of that file; "" when there is none
  virtual int64_t vocab_size() const = 0;
  virtual int64_t eos_id() const = 0;
  virtual Hash128 hash() const = 0;  // of everything that determines encode and decode

  /// Appends the ids of `text`, which may hold any bytes. Encoding the pieces of a text that was cut where
  /// complete_prefix says gives the ids of the whole.
  virtual void encode(std::string_view text, std::vector<int32_t>& ids) const = 0;
  /// How many leading bytes of `text` can be encoded without knowing what follows; may be 0. Never inside a
  /// UTF-8 sequence.
  virtual size_t complete_prefix(std::string_view text) const = 0;
  /// The bytes that the ids stand for; eos stands for none. Throws ExitCode::bad_data for an id outside the
  /// vocabulary.
  virtual std::string decode(const std::vector<int32_t>& ids) const = 0;
  /// How many bytes of text an id stands for.
  virtual int64_t byte_count(int32_t id) const = 0;
};

/// Which token ends a document: by id, else by its text, else as the tokenizer's file has it.
struct EndOfDocument {
  std::string token;
  int64_t id = -1;
};

/// "bytes": the 256 byte values, and 256 as end of document. Otherwise the path of a Hugging Face
/// tokenizer.json (its end of document is what tokenizer_config.json beside it calls eos_token, else
/// <|endoftext|>,
/// <|end_of_text|> or </s>) or of a SentencePiece model. What is not supported is refused by name.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& name_or_path, const EndOfDocument& end = {});

/// The same from a stored copy, as datasets and checkpoints name it; ExitCode::bad_data when it is missing or
/// not the one with this hash.
std::unique_ptr<Tokenizer> reopen_tokenizer(const std::string& name_or_path, int64_t eos_id, Hash128 hash);

/// Text from the ids of one document that come bit by bit: pieces that together are decode() of all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  /// What can be said now: nothing while a character is incomplete.
  std::string push(const int32_t* ids, int64_t count);
  /// What is left; the next id begins another document.
  std::string finish();

 private:
  std::string take();

  const Tokenizer& tokenizer_;
  std::vector<int32_t> ids_;  // the last ones said, and those since
  size_t said_ = 0;           // how many were said
};

}  // namespace dm::data
