#pragma once
// A run small enough to be repeated many times: prepared text, a two-layer model, thirty steps.

#include <map>
#include <string>
#include <vector>

#include "tests/support/process.h"

namespace dm::test {

/// Some hundred short documents of English-looking words, the same for the same seed.
std::string sample_text(int documents, unsigned seed);

/// A prepared dataset in FOLDER/data/train (and heldout) made by the program itself. Throws when that fails.
void prepare_sample(const std::string& folder);

/// The words of `diffmamba train` for a run in FOLDER/`name` on FOLDER/data, with its ledger in
/// FOLDER/`name`.ledger.
std::vector<std::string> train_words(const std::string& folder, const std::string& name, int steps,
                                     const std::vector<std::string>& more = {});

/// The same under mpirun, or alone for one rank.
std::vector<std::string> on_ranks(int ranks, std::vector<std::string> words);

}  // namespace dm::test
