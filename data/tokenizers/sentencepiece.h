#pragma once
// Tokenizers from a SentencePiece .model, through libsentencepiece.

#include <memory>
#include <string>

#include "data/tokenizer.h"

namespace dm::data {

/// `file` is the content of the file at `path`; see open_tokenizer and reopen_tokenizer of data/tokenizer.h.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string file, const std::string& path,
                                                        const EndOfDocument& end);

}  // namespace dm::data
