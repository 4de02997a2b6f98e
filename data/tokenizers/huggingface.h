#pragma once
// Tokenizers from a Hugging Face tokenizer.json: the ids of the `tokenizers` package's encode() without
// special tokens added around the text, on any number of threads.

#include <memory>
#include <string>

#include "data/tokenizer.h"

namespace dm::data {

/// `file` is the text of the file at `path`; see open_tokenizer and reopen_tokenizer of data/tokenizer.h.
std::unique_ptr<Tokenizer> make_huggingface_tokenizer(std::string file, const std::string& path,
                                                      const EndOfDocument& end);

}  // namespace dm::data
