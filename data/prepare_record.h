#pragma once
// OUTPUT/prepare.json: from what, how and with what outcome a folder was prepared. No reader of the datasets
// needs it; it tells `prepare` whether there is anything left to do.

#include <string>

#include "core/json.h"
#include "data/input_files.h"
#include "data/prepare.h"
#include "data/tokenizer.h"

namespace dm::data {

/// What determines the outcome: the options that change results, the tokenizer's file, and the inputs' names
/// and sizes.
Json prepare_request(const PrepareConfig& config, const Tokenizer& tokenizer,
                     const std::vector<InputFile>& files);
std::string prepare_record(const Json& request, const PrepareResult& result);

/// The result that stands in `output` already, if it was made by this request; throws ExitCode::usage, with
/// the differences, when something else stands there.
bool find_prepared(const std::string& output, const Json& request, PrepareResult& result);

}  // namespace dm::data
