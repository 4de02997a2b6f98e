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

  virtual const std::string& name() const = 0;  // "bytes", or the name of the tokenizer's file
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
};

/// "bytes": the 256 byte values, and 256 as end of document. Anything else is refused (ExitCode::usage) by
/// name.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& name_or_path);

}  // namespace dm::data
