#pragma once
// Which options may change when a run goes on from a checkpoint. The rule: a resumed run is the uninterrupted
// run, so whatever affects its numbers must be as it was, unless --allow names it. Speed and output may
// change freely (core/fields.h).
//
// Three things are judged by what they mean instead of by their text:
//   data, hdf5_name, eos_id   by the fingerprint of the samples: a dataset may move;
//   steps, tokens             by the learning rates of the steps already done: a constant schedule may be
//   extended at any
//                             time, wsd before its decay begins, cosine and linear only where --decay-steps
//                             fixes their end;
//   preset                    not at all: it is resolved into the other options of its section.

#include <string>
#include <vector>

#include "train/run_config.h"
#include "train/state.h"

namespace dm::train {

struct Difference {
  std::string name;     // an option, or "tokenizer"
  std::string stored;   // in the checkpoint
  std::string current;  // asked for now
};

/// Between a checkpoint's config and this one; --allow is not considered.
std::vector<Difference> config_differences(const Meta& stored, RunConfig config);
/// Between a checkpoint's data and this run's, as far as config_differences does not say it already.
std::vector<Difference> data_differences(const Meta& stored, RunConfig config, const DataIdentity& current);

/// Throws ExitCode::usage with all differences that `allow` does not name, field by field, and the remedy;
/// warns of the others.
void refuse_differences(const std::vector<Difference>& differences, const std::vector<std::string>& allow,
                        const std::string& checkpoint);

/// Refuses names in --allow that are no option, with the nearest that is.
void check_allowed_names(const FieldTable& table, const std::vector<std::string>& allow);

}  // namespace dm::train
