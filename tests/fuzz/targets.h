#pragma once
// What reads bytes that others made, one reader a kind of file: libFuzzer feeds them (fuzzer.cpp), and the
// corpus is replayed through them in every build (corpus_test.cpp).

#include <string>
#include <vector>

namespace dm::test {

struct FuzzTarget {
  const char* name;  // also of its folder in tests/fuzz/corpus
  /// "" when the bytes are read, else why they are refused. Whatever else the reader throws (an error of
  /// another kind than a refusal, memory that runs out), and any crash, is a finding.
  std::string (*refusal)(const std::string& bytes);
};

const std::vector<FuzzTarget>& fuzz_targets();

/// nullptr when there is none of that name.
const FuzzTarget* find_fuzz_target(const std::string& name);

}  // namespace dm::test
